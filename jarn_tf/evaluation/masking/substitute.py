"""A substitute of a classifier, distilled from nothing but its answers (Papernot et al., 2017)."""

from __future__ import annotations

import keras
import numpy as np

_COPIES = 16  # of each image, each with noise of its own
_EPOCHS = 4
_BATCH = 64


def distilled_substitute(
    classifier: keras.Model, images: np.ndarray, epsilon: float, seed: int
) -> keras.Model:
    """A small convolutional network that imitates a classifier around some images.

    It learns the classifier's probabilities on the images under uniform noise, at the temperature
    that makes the median lead of the predicted class 2. Adversarial images made on it owe nothing
    to the classifier's own gradients.

    Args:
        classifier: Keras model from images in [0, 1] to logits.
        images: Float images [n, height, width, channels] in [0, 1].
        epsilon: Radius of the noise, in pixel units of [0, 1].
        seed: Seed of noise, order and initial weights.

    Returns:
        Keras model from images in [0, 1] to logits.
    """
    rng = np.random.default_rng(seed)
    noisy = np.concatenate([images] * _COPIES).astype(np.float32)
    rng.shuffle(noisy)
    radius = rng.uniform(0, epsilon, (len(noisy), 1, 1, 1))
    noisy = np.clip(noisy + rng.uniform(-radius, radius, noisy.shape), 0, 1).astype(np.float32)
    logits = classifier.predict(noisy, batch_size=500, verbose=0)
    lead = np.diff(np.sort(logits, axis=-1)[:, -2:], axis=-1)
    least = 1e-6 * float(np.median(np.abs(logits)))  # where all are equal
    temperature = max(float(np.median(lead)) / 2, least, 1e-30)
    targets = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))

    layers = [keras.Input(images.shape[1:])]
    for number, channels in enumerate((16, 32)):
        layers.append(
            keras.layers.Conv2D(
                channels,
                4,
                strides=2,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed + number),
            )
        )
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(
            logits.shape[-1], kernel_initializer=keras.initializers.GlorotUniform(seed + 2)
        ),
    ]
    substitute = keras.Sequential(layers, name="substitute")
    substitute.compile(
        keras.optimizers.Adam(2e-3), keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    substitute.fit(noisy, targets, _BATCH, _EPOCHS, verbose=0, shuffle=False)
    return substitute
