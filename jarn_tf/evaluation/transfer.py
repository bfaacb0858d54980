"""Black-box transfer: adversarial examples made on another model (Section 4.3.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tqdm

from jarn_tf import checks
from jarn_tf.batches import slices
from jarn_tf.evaluation.attack import Attack
from jarn_tf.inference import logits_of_all
from jarn_tf.labels import as_integers


def transfer(
    classifiers: Mapping[str, keras.Model],
    substitute: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    list_of_attacks: Sequence[Attack],
    batch_size: int = 500,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Accuracy of classifiers on adversarial images that were made on a substitute.

    Args:
        classifiers: Name to Keras model from images in [0, 1] to logits; run in inference mode.
        substitute: The classifier that is attacked.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`.
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        list_of_attacks: The attacks; of PGD the point of highest loss counts, also where the
            substitute was misled before. Random numbers are drawn for parts of 500 images.
        batch_size: Images attacked at once, at most 500. Memory depends on it; the accuracies do
            not, but by rounding.
        progress: Whether to draw a progress bar on a terminal.

    Returns:
        Name of a classifier to name of an attack to accuracy, 0 to 1.

    Raises:
        ValueError: A classifier or the substitute does not fit the images, or two attacks have
            one name.
    """
    names = [attack.name for attack in list_of_attacks]
    if len(set(names)) < len(names):
        raise ValueError(f"Attacks must differ in name. Received: {', '.join(names)}.")
    classes = {}
    for name, model in {"substitute": substitute, **classifiers}.items():
        checks.classifier(model)
        shape, classes[name] = checks.input_shape(model)[1:], checks.classes(model)
        if shape != images.shape[1:] or len(set(classes.values())) > 1:
            raise ValueError(
                f"The {name} does not fit: the images are {images.shape[1:]} of "
                f"{classes['substitute']} classes. Received a model of images "
                f"{shape} and {classes[name]} classes. Name a model of the "
                "same dataset."
            )
    right = {name: {attack.name: 0 for attack in list_of_attacks} for name in classifiers}
    for attack in list_of_attacks:
        bar = tqdm.tqdm(total=len(images), desc=attack.name, disable=None if progress else True)
        for rows in slices(len(images)):
            adversarial = attack(substitute, images[rows], labels[rows], batch_size=batch_size)
            for name, model in classifiers.items():
                predicted = np.argmax(logits_of_all(model, adversarial, batch_size), axis=-1)
                right[name][attack.name] += int((predicted == as_integers(labels[rows])).sum())
            bar.update(len(adversarial))
        bar.close()
    return {
        name: {attack: count / len(images) for attack, count in counts.items()}
        for name, counts in right.items()
    }
