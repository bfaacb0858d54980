"""AutoAttack's versions, gradients of many passes, untargeted FAB, targeted PGD."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import attacks, evaluation
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.autoattack import VERSIONS

PIXELS = int(np.prod(toys.IMAGE_SHAPE))


@keras.saving.register_keras_serializable("test_versions")
class Shaken(keras.layers.Layer):
    """Adds other normal numbers of deviation 3 to its input at every call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + 3 * keras.random.normal(keras.ops.shape(x), seed=self.seeds)


def predicted(model, images):
    return np.asarray(model(images)).argmax(axis=-1).astype(np.int32)


def squared(shaken):
    """Two classes; the second one's logit is |x + noise|^2, whose expected gradient is 2 x."""
    inputs = keras.Input(toys.IMAGE_SHAPE)
    x = Shaken()(inputs) if shaken else inputs
    logit = keras.ops.sum(keras.ops.square(x), axis=(1, 2, 3))[:, None]
    return keras.Model(inputs, keras.ops.concatenate([keras.ops.zeros_like(logit), logit], axis=1))


def test_a_gradient_of_many_passes_nears_the_expected_one():
    images, _ = toys.batch(8)
    labels = tf.zeros(8, tf.int32)
    errors = [
        np.std(loss_and_gradient(squared(True), tf.constant(images), labels, "margin", None, n)[2]
               - 2 * images)
        for n in (1, 100)
    ]  # fmt: skip
    np.testing.assert_allclose(errors, [6, 0.6], rtol=0.1)


def test_rand_has_the_published_settings_and_plus_too():
    """`set_version` of the authors' `autoattack.py`."""
    settings = {
        version: {name: options for name, (_, options) in VERSIONS[version].items()}
        for version in ("plus", "rand")
    }
    eot = {"eot_samples": 20}
    assert settings["rand"] == {
        "apgd_ce": {"loss": "cross_entropy"} | eot, "apgd_dlr": {"loss": "dlr"} | eot,
    }  # fmt: skip
    assert list(settings["plus"]) == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]
    restarts = {name: options.get("restarts", 1) for name, options in settings["plus"].items()}
    assert restarts == {
        "apgd_ce": 5, "apgd_dlr": 5, "fab": 5, "square": 1, "apgd_t": 1, "fab_t": 1,
    }  # fmt: skip


def test_an_image_that_was_only_once_misclassified_is_attacked_from_where_it_was():
    """A classifier that answers at random: what the first attack found may be right again."""
    model = keras.Sequential(
        [keras.Input(toys.IMAGE_SHAPE), Shaken(), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    images, labels = toys.batch(40)
    found = attacks.autoattack(model, images, labels, epsilon=0.1, version="rand")
    assert np.abs(found.astype(np.float64) - images).max() <= 0.1


def test_of_a_classifier_that_answers_at_random_what_was_broken_once_stays_broken():
    model = keras.Sequential(
        [keras.Input(toys.IMAGE_SHAPE), Shaken(), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    images, labels = toys.batch(40)
    attack = evaluation.Attack("autoattack", 0.5, version="rand")
    clean, attacked, *_ = evaluation.robustness(
        model, images, labels, [evaluation.Attack("clean", 0.5), attack]
    )
    assert attacked["accuracy"] == 0 < clean["accuracy"]  # one answer alone is right now and then


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_untargeted_fab_finds_the_nearest_class_though_another_is_likelier(norm):
    """A decoy: the likeliest wrong class is far, as its logit hardly depends on the image."""
    kernel = np.zeros((PIXELS, 3), np.float32)
    kernel[:, 1], kernel[:, 2] = 0.001, 1.0
    images = np.full((1, *toys.IMAGE_SHAPE), 0.5, np.float32)
    model = toys.linear_classifier(kernel, np.float32([1.0, 0.9, 0.8 - 0.5 * PIXELS]))
    logits = np.ravel(model(images))
    assert logits.argsort().tolist() == [2, 1, 0]
    exact = 0.2 / (PIXELS if norm == "linf" else np.sqrt(PIXELS))
    for factor, falls in ((0.99, False), (1.1, True)):
        epsilon = float(factor * exact)
        adversarial = attacks.fab(
            model, images, [0], epsilon=epsilon, norm=norm, targets=0, steps=10
        )
        assert (predicted(model, adversarial) != 0) == falls
    (missed,) = attacks.fab(model, images, [0], epsilon=epsilon, norm=norm, targets=1, steps=10)
    np.testing.assert_array_equal(missed, images[0])


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_targeted_pgd_reaches_the_class_it_is_told(loss, digits_classifier, digits):
    images, labels = digits.test.floats[:60], digits.test.labels[:60]
    targets = (labels + 1) % 10
    options = {"epsilon": 0.4, "steps": 20, "loss": loss, "targets": targets}
    found = attacks.pgd(digits_classifier, images, labels, **options)
    assert (predicted(digits_classifier, found) == targets).mean() > 0.9
    stopped = attacks.pgd(
        digits_classifier, images, labels, **options, stop_when_misclassified=True
    )
    reached = predicted(digits_classifier, stopped) == targets
    assert reached.mean() > 0.9
    of_target = np.arange(60), targets
    whole, early = (np.asarray(digits_classifier(x))[of_target] for x in (found, stopped))
    assert (whole - early)[reached].mean() > 0


@pytest.mark.parametrize("targets", [[1, 2], [1.0, 2.0, 0.0], [0, 1, 3], [[0], [1], [2]], None])
def test_targets_that_are_no_classes_are_refused(targets):
    images, labels = toys.batch(3)
    if targets is None:
        images, labels = tf.data.Dataset.from_tensors((images, labels)), None
    with pytest.raises(ValueError, match="^targets (must be an integer in 0..2|need)") as error:
        attacks.pgd(toys.classifier(), images, labels, epsilon=0.1, targets=targets or [1, 1, 1])
    assert "\n" not in str(error.value)
