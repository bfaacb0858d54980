"""The scripts of `examples/`, with little to do."""

import pathlib
import runpy

import keras
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def main_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_own_model_on_pictures_that_it_draws():
    accuracy = main_of("own_model")(size=12, epochs=1)
    assert 0 <= accuracy["PGD-20"] <= accuracy["clean"] <= 1


def test_own_model_on_a_folder(tmp_path):
    for name, level in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = np.full((10, 14, 3), level)
            keras.utils.save_img(tmp_path / name / f"{number}.png", pixels, scale=False)
    assert set(main_of("own_model")(str(tmp_path), size=8, epochs=1)) == {"clean", "PGD-20"}


def test_fine_tune(tmp_path):
    accuracy = main_of("fine_tune")(str(tmp_path), epochs=1, examples=16)
    assert set(accuracy) == {"before", "after"}
    assert keras.models.load_model(tmp_path / "classifier.keras").output_shape == (None, 10)
    assert (tmp_path / "served" / "saved_model.pb").exists()


def test_judge_a_small_model():
    layers = [
        keras.Input((6, 6, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(3, "softmax"),
    ]
    verdict = main_of("judge")(keras.Sequential(layers), examples=8)
    assert verdict in ("masked", "not masked", "undecided")


@pytest.mark.slow
def test_judge_mobilenet():
    assert main_of("judge")(examples=8) in ("masked", "not masked", "undecided")
