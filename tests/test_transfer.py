import keras
import numpy as np
import pytest
import toys

from jarn_tf import attacks, evaluation
from jarn_tf.evaluation import Attack

PIXELS = int(np.prod(toys.IMAGE_SHAPE))


def accuracy(model, images, labels):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy.compile(loss=loss, metrics=["accuracy"])
    return copy.evaluate(images, labels, verbose=0)[1]


def transferred(classifiers, substitute, images, labels, list_of_attacks, **options):
    return evaluation.transfer(
        classifiers, substitute, images, labels, list_of_attacks, progress=False, **options
    )


def test_a_classifier_attacked_by_itself(digits_classifier, digits):
    images, labels = digits.test.floats, digits.test.labels
    list_of_attacks = [Attack("fgsm", 0.1), Attack("pgd5", 0.08, seed=3), Attack("clean", 0.0)]
    found = transferred({"itself": digits_classifier}, digits_classifier, images, labels,
                        list_of_attacks)["itself"]  # fmt: skip
    by_fgsm = attacks.fgsm(digits_classifier, images, labels, epsilon=0.1)
    by_pgd = attacks.pgd(digits_classifier, images, labels, epsilon=0.08, steps=5, seed=3)
    assert found == pytest.approx(
        {
            "fgsm": accuracy(digits_classifier, by_fgsm, labels),
            "pgd5": accuracy(digits_classifier, by_pgd, labels),
            "clean": accuracy(digits_classifier, images, labels),
        }
    )
    assert 0.05 < found["pgd5"] < found["clean"] - 0.1


@pytest.fixture
def halves(rng):
    """Two two-class classifiers that read one half of the pixels each, images and labels.

    The labels are those of the first classifier.
    """
    weights = rng.normal(0, 1, (PIXELS, 2)).astype(np.float32)
    models = {}
    for name, unread in (("first", slice(PIXELS // 2, None)), ("second", slice(PIXELS // 2))):
        read = weights.copy()
        read[unread] = 0
        images, _ = toys.batch(40)
        logits = images.reshape(40, -1) @ read
        middle = np.median(logits[:, 0] - logits[:, 1])
        models[name] = toys.linear_classifier(read, np.float32([0, middle]))
    labels = models["first"](images).numpy().argmax(axis=1).astype(np.int32)
    return models, images, labels


def test_the_substitute_is_attacked_and_the_classifiers_are_judged(halves):
    models, images, labels = halves
    list_of_attacks = [Attack("fgsm", 0.1), Attack("pgd3", 0.1, random_start=False)]
    by_second = transferred(models, models["second"], images, labels, list_of_attacks)
    for attack in ("fgsm", "pgd3"):
        assert by_second["first"][attack] == 1  # no pixel that it reads has changed
        assert by_second["second"][attack] < accuracy(models["second"], images, labels)
    by_first = transferred(models, models["first"], images, labels, list_of_attacks)
    for attack in ("fgsm", "pgd3"):
        assert by_first["first"][attack] < 1
        clean = accuracy(models["second"], images, labels)
        assert by_first["second"][attack] == pytest.approx(clean)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 500])
def test_every_image_counts_once(halves, batch_size):
    models, images, labels = halves
    found = transferred(
        models, models["second"], images, labels, [Attack("fgsm", 0.02)], batch_size=batch_size
    )
    adversarial = attacks.fgsm(models["second"], images, labels, epsilon=0.02)
    for name, model in models.items():
        expected = accuracy(model, adversarial, labels)
        assert found[name]["fgsm"] == pytest.approx(expected), name
        assert expected > 0.3


def test_the_highest_point_counts_though_the_substitute_was_misled_before(halves):
    """A like classifier whose border lies further off is misled by the whole way alone."""
    models, images, labels = halves
    kernel, bias = models["first"].get_weights()
    further = toys.linear_classifier(kernel, bias + np.where(np.arange(2) == 0, 1.5, -1.5))
    attack = Attack("pgd10", 0.2, random_start=False)
    found = transferred({"further": further}, models["first"], images, labels, [attack])
    stopped = attack(models["first"], images, labels, stop_when_misclassified=True)
    away = np.where(labels[:, None] == 1, -1, 1) * np.sign(kernel[:, 1] - kernel[:, 0])
    optimum = np.clip(images + 0.2 * away.reshape(images.shape), 0, 1)
    assert found["further"]["pgd10"] == pytest.approx(accuracy(further, optimum, labels))
    assert found["further"]["pgd10"] < accuracy(further, stopped, labels)


# Models that do not fit


@pytest.mark.parametrize("who", ["substitute", "classifier"])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"image_shape": (8, 8, 1)}, ["(6, 6, 2)", "(8, 8, 1)"]),
        ({"classes": 7}, ["3 classes", "7 classes"]),
        ({"image_shape": (8, 8, 1), "classes": 7}, ["(6, 6, 2)", "(8, 8, 1)"]),
    ],
)
def test_a_model_of_other_images_is_refused(who, change, parts):
    images, labels = toys.batch(3)
    fits, other = toys.classifier(), toys.classifier(**change)
    target, substitute = (fits, other) if who == "substitute" else (other, fits)
    with pytest.raises(ValueError, match="does not fit") as error:
        transferred({"classifier": target}, substitute, images, labels, [Attack("fgsm", 0.1)])
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_two_attacks_of_one_name_are_refused():
    """At two radii, say: the result has one place for both."""
    images, labels = toys.batch(3)
    model = toys.classifier()
    with pytest.raises(ValueError, match="fgsm"):
        transferred({"model": model}, model, images, labels, [Attack("fgsm", r) for r in (0, 0.1)])
