"""Attacks a model that was trained elsewhere, and judges whether its gradients are masked.

    python -m examples.judge

MobileNetV3Small stands for your model. Its weights are random here, so every attack breaks it; and
16 images are too few for a verdict other than `undecided`. Takes some minutes.
"""

import keras
import numpy as np

from jarn_tf import as_classifier, evaluation


def main(model: keras.Model | None = None, examples: int = 16) -> str:
    # Keras's networks take pixels in [0, 255] and return probabilities. With trained weights you
    # would say weights="imagenet", or keras.models.load_model("mine.keras").
    if model is None:
        keras.utils.set_random_seed(0)
        model = keras.applications.MobileNetV3Small((64, 64, 3), weights=None, classes=10)

    # What this library attacks takes pixels in [0, 1] and returns logits.
    classifier = as_classifier(model, pixel_scale=255.0, probabilities=True)

    # Your images and labels stand here; these are noise, and labelled as the model sees them.
    images = np.random.default_rng(0).random((examples, *model.input_shape[1:]), np.float32)
    labels = np.argmax(classifier.predict(images, verbose=0), axis=1)

    chosen = [evaluation.Attack(name, epsilon=8 / 255) for name in ("fgsm", "pgd10")]
    for row in evaluation.robustness(classifier, images, labels, chosen):
        print(f"{row['name']}: {row['accuracy']:.1%} of the images withstand")

    verdict = evaluation.masking_verdict(classifier, images, labels, epsilon=8 / 255)
    print(f"Are its gradients masked? {verdict.label}")
    return verdict.label


if __name__ == "__main__":
    main()
