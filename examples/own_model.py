"""Trains a model of your own on a folder of pictures with JARN.

    python -m examples.own_model FOLDER

FOLDER has a folder of pictures for each class. Where none is given, a few pictures are drawn.
"""

import pathlib
import sys
import tempfile

import keras
import numpy as np

from jarn_tf import JARN, attacks, data


def draw_pictures(folder: pathlib.Path, size: int, each: int = 40) -> None:
    """Two classes of noisy pictures: bright at the top, bright at the bottom."""
    random = np.random.default_rng(0)
    for name, rows in (("top", slice(0, size // 2)), ("bottom", slice(size // 2, size))):
        (folder / name).mkdir()
        for number in range(each):
            pixels = random.uniform(0, 100, (size, size, 3))
            pixels[rows] += 120
            keras.utils.save_img(folder / name / f"{number}.png", pixels, scale=False)


def main(folder: str | None = None, size: int = 32, epochs: int = 5) -> dict[str, float]:
    if folder is None:
        with tempfile.TemporaryDirectory() as drawn:
            draw_pictures(pathlib.Path(drawn), size)
            return main(drawn, size, epochs)
    pictures = data.load(f"folder:{folder}", image_size=size)  # training, validation, test

    # Any Keras model that takes images in [0, 1] and returns logits, so no softmax at its end.
    layers = [
        keras.Input((size, size, 3)),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D() if size > 64 else keras.layers.Flatten(),
        keras.layers.Dense(pictures.classes),
    ]
    model = JARN(keras.Sequential(layers), perturb=attacks.UniformNoise(epsilon=8 / 255))
    model.compile("adam")
    model.fit(pictures.train.floats, pictures.train.labels, batch_size=16, epochs=epochs)

    # An attack changes each pixel of the test pictures by at most 8/255.
    images, labels = pictures.test.floats, pictures.test.labels
    attacked = attacks.pgd(model.classifier, images, labels, epsilon=8 / 255, steps=20)
    accuracy = {"clean": model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"]}
    accuracy["PGD-20"] = model.evaluate(attacked, labels, verbose=0, return_dict=True)["accuracy"]
    print(accuracy)
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:2])
