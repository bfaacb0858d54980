"""Makes a trained classifier robuster with JARN, then saves, exports and serves it.

    python -m examples.fine_tune FOLDER

FOLDER (`exported` unless told) gets `classifier.keras` and the SavedModel `served`.
"""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import JARN, attacks, data, networks


def main(folder: str = "exported", epochs: int = 2, examples: int = 200) -> dict[str, float]:
    digits = data.load("digits")
    images, labels = digits.train.floats, digits.train.labels
    test_images, test_labels = digits.test.floats[:examples], digits.test.labels[:examples]

    # The classifier that you have: trained by plain Keras, with logits as its output.
    classifier = networks.mnist_cnn()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss, metrics=["accuracy"])
    classifier.fit(images, labels, batch_size=64, epochs=epochs)

    def robust_accuracy() -> float:
        attacked = attacks.pgd(classifier, test_images, test_labels, epsilon=0.1, steps=20)
        return float(np.mean(np.argmax(classifier(attacked), axis=1) == test_labels))

    accuracy = {"before": robust_accuracy()}

    # JARN goes on with its weights. `start_step` is 0 unless told: its term counts from step 0 on.
    model = JARN.recommended(classifier, perturb=attacks.UniformNoise(epsilon=0.3))
    model.compile(keras.optimizers.Adam(0.0005), discriminator_optimizer="adam")
    model.fit(images, labels, batch_size=64, epochs=epochs)
    accuracy["after"] = robust_accuracy()
    print("Accuracy under PGD-20:", accuracy)

    # A file for Keras, and a SavedModel for TensorFlow Serving. Neither needs jarn_tf.
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    classifier.save(f"{folder}/classifier.keras")
    classifier.export(f"{folder}/served")

    served = tf.saved_model.load(f"{folder}/served")
    print("Served:", np.argmax(served.serve(test_images[:5]), axis=1), "labels:", test_labels[:5])
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:2])
