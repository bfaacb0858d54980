import dataclasses
import json
from unittest import mock

import keras
import numpy as np
import pytest
import toys
import zoo

from jarn_tf import evaluation
from jarn_tf.evaluation.masking import evidence, measurements
from jarn_tf.evaluation.masking.measurements import Measurements
from jarn_tf.evaluation.masking.substitute import distilled_substitute
from jarn_tf.resume import Parts

QUICK = ("quantized",)


def digits(number=200):
    test = zoo.digits().test
    return test.floats[:number], test.labels[:number]


# The zoo


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.ZOO]
)
def test_the_zoo(name):
    member = zoo.ZOO[name]
    found = evaluation.masking_verdict(member.builder(), *digits(), epsilon=zoo.EPSILON)
    told = "\n".join(f"{piece.name}: {piece.label}. {piece.finding}" for piece in found.evidence)
    assert found.label == member.expected, f"{member.why}\n{told}"


def short_verdict(classifier, number, **options):
    """Of a few images, with a short search: for tests of what is around the measurements."""
    options = {"epsilon": 8 / 255} | options
    with mock.patch.object(measurements, "_QUERIES", 50):
        return evaluation.masking_verdict(classifier, *digits(number), **options)


@pytest.fixture(scope="module")
def found():
    return short_verdict(zoo.standard(), 30, seed=3)


def test_the_same_call_has_the_same_verdict(found):
    assert short_verdict(zoo.standard(), 30, seed=3) == found


def test_of_a_standard_classifier_nothing_is_masked(found):
    assert {piece.name: piece.label for piece in found.evidence if piece.label != found.label} == {}
    assert found.label == "not masked"


@pytest.mark.parametrize(
    "name, attack",
    [("standard_times_1000", measurements.RESCALED), ("quantized", measurements.TRANSFER)],
)
def test_what_pgd_misses_these_attacks_find(name, attack):
    """PGD has no gradient where the softmax saturates, or behind a rounding."""
    images, labels = digits(40)
    of = zoo.ZOO[name].builder(), images, labels

    def withstand(attacks, name):
        return measurements._right(*of, attacks[name], zoo.EPSILON, 0)["right"].mean()

    at_epsilon = measurements._at_epsilon(of[0], images, zoo.EPSILON, 0, scale=1e-3)
    missed_by_pgd = withstand(measurements._at_every_radius(of[0]), measurements.PGD)
    assert withstand(at_epsilon, attack) < missed_by_pgd - 0.05


def test_an_image_alone_is_told_from_one_in_a_batch():
    images, _ = digits(40)
    for first, differs in (((), False), ((zoo.BatchStatistics(),), True)):
        model = zoo.network(*first)
        alone = measurements._alone(model, images, np.array(model(images)))
        assert (np.median(alone) > 1e-2) == differs


def test_a_verdict_is_strict_json_and_text(found):
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["label"] == found.label and content["examples"] == 30
    assert len(content["evidence"]) == len(found.evidence) >= 11
    for curve in content["accuracies"].values():
        assert float(min(curve, key=float)) == 0.0
        assert 8 / 255 in map(float, curve)
    told = evaluation.verdict_text(found)
    assert found.label.upper() in told and all(piece.name in told for piece in found.evidence)


def test_one_image_cannot_tell():
    found = short_verdict(zoo.standard(), 1)
    assert found.label == "undecided"
    assert "are needed" in found.evidence[0].finding


def test_a_constant_classifier_cannot_be_judged():
    bias = np.full(10, -1e9, np.float32)
    bias[digits(1)[1][0]] += 1e3
    constant = toys.linear_classifier(np.zeros((784, 10), np.float32), bias, (28, 28, 1))
    found = short_verdict(constant, 40)
    assert found.label == "undecided"
    assert "Every image is taken for class" in found.evidence[0].finding


@pytest.mark.parametrize("epsilon, message", [(0.0, "above 0"), (8, "did you mean 8/255")])
def test_bad_radius(epsilon, message):
    with pytest.raises(ValueError, match=message):
        evaluation.masking_verdict(zoo.standard(), *digits(5), epsilon=epsilon)


def test_bad_classifiers_and_data():
    images, labels = digits(5)
    softmax = keras.Sequential([keras.Input((28, 28, 1)), zoo.standard(), keras.layers.Softmax()])
    with pytest.raises(ValueError, match="returns probabilities"):
        evaluation.masking_verdict(softmax, images, labels, epsilon=0.1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        evaluation.masking_verdict(zoo.standard(), images * 255, labels, epsilon=0.1)
    with pytest.raises(ValueError, match="at least one image"):
        evaluation.masking_verdict(zoo.standard(), images[:0], labels[:0], epsilon=0.1)


def test_an_interrupted_verdict_continues(found, tmp_path, monkeypatch):
    calls = []
    fgsm = measurements.attacks.fgsm

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fgsm(*args, **kwargs)

    monkeypatch.setattr(measurements.attacks, "fgsm", interrupted)
    options = {"seed": 3, "parts": Parts(tmp_path, {"a": 1})}
    with pytest.raises(KeyboardInterrupt):
        short_verdict(zoo.standard(), 30, **options)
    assert short_verdict(zoo.standard(), 30, **options) == found
    assert len(calls) == len(measurements.radii(8 / 255)) + 1  # only what broke off was done twice


# Measurements


@keras.saving.register_keras_serializable("test_masking")
class LeftOn(keras.layers.Layer):
    """Calls a layer in training mode whatever the mode of the model."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, images):
        return self.layer(images, training=True)


@pytest.mark.parametrize(
    "layer, state",
    [
        (keras.layers.BatchNormalization(name="left_on"), "moving_mean"),
        (keras.layers.Dropout(0.5, name="left_on"), "seed_generator_state"),
    ],
)
def test_layers_left_in_training_mode_are_named(layer, state):
    rest = [keras.layers.BatchNormalization(name="at_rest"), keras.layers.Flatten()]
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), LeftOn(layer), *rest, keras.layers.Dense(10)]
    )
    changed = measurements.changed_by_inference(model, digits(40)[0])
    assert any(state in name for name in changed) and not any("at_rest" in name for name in changed)
    found = measured(changed=changed, alone=np.full(32, 0.1))
    assert changed[0] in evidence.judge(found)[-1].finding


def test_a_substitute_imitates_the_classifier():
    images, _ = digits()
    answers = np.argmax(zoo.standard()(images), axis=-1)
    substitute = distilled_substitute(zoo.standard(), images[:150], 0.15, seed=0)
    agreement = np.argmax(substitute(images[150:]), axis=-1) == answers[150:]
    assert agreement.mean() > 0.7  # of images that it was not distilled on


# Evidence: figures with a known answer


def measured(**changes):
    """Of 200 images, 190 right: a robust classifier; then changes, shares of all images."""
    shares = {
        measurements.NOISE: 0.94,
        measurements.FGSM: 0.70,
        measurements.FEW_STEPS: 0.62,
        measurements.PGD: 0.60,
        measurements.MANY_STEPS: 0.58,
        measurements.MARGIN: 0.58,
        measurements.RESCALED: 0.60,
        measurements.SQUARE: 0.66,
        measurements.TRANSFER: 0.90,
    } | {getattr(measurements, name): share for name, share in changes.items() if name.isupper()}
    rows = np.arange(200) / 200
    withstands = {(attack, 0.3): rows < share for attack, share in shares.items()}
    withstands |= {(measurements.PGD, 0.65): rows < 0.1, (measurements.PGD, 1.0): rows < 0.0}
    found = Measurements(
        clean=rows < 0.95,
        withstands=withstands,
        epsilon=0.3,
        gradient=np.ones(200),
        median_lead=1.0,
        repeated=np.zeros(200),
        alone=np.full(32, 1e-6),
        predicted=np.arange(200) % 10,
        changed=[],
    )
    return dataclasses.replace(found, **{k: v for k, v in changes.items() if not k.isupper()})


def labels_of(found):
    return {piece.name: piece.label for piece in evidence.judge(found)}


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_only_who_answers_at_random_is_attacked_as_such(deviation, monkeypatch):
    for attacks in ("_at_every_radius", "_at_epsilon"):
        monkeypatch.setattr(measurements, attacks, lambda *of: {})
    seeds = keras.random.SeedGenerator(0)
    inputs = keras.Input(toys.IMAGE_SHAPE)
    noise = keras.layers.Lambda(
        lambda x: x + deviation * keras.random.normal(keras.ops.shape(x), seed=seeds),
        output_shape=(3,),
    )
    model = keras.Model(inputs, noise(toys.classifier()(inputs)))
    of = measurements.measure(model, *toys.batch(8), 0.1, 0, False, Parts(None, {}))
    assert (of.right_under_rand is None) == (deviation == 0)


def test_who_answers_at_random_is_told_what_to_quote():
    left = np.array([True, False, False, False])
    found = measured(repeated=np.full(200, 0.1), right_under_rand=left)
    (piece,) = [p for p in evidence.judge(found) if p.name == "stochastic output"]
    assert "leaves 25.0% of 4 images" in piece.finding and "--version=rand" in piece.advice


def test_a_robust_classifier_gives_no_evidence():
    assert set(labels_of(measured()).values()) == {"not masked"}
    assert {piece.advice for piece in evidence.judge(measured())} == {""}


def test_what_to_do_is_said_where_something_is_to_be_done():
    found = measured(SQUARE=0.20, MARGIN=0.48, clean=np.arange(200) < 10)
    advised = {piece.name: piece.advice for piece in evidence.judge(found) if piece.advice}
    assert advised.keys() == {n for n, label in labels_of(found).items() if label != "not masked"}
    assert "AutoAttack" in advised["gradient-free against white-box"]
    assert advised["margin against cross-entropy"].startswith("Judge more images")
    assert advised["images to judge by"].startswith("Give more images")


def test_what_all_attacks_leave_together():
    """Rows that fall under one attack or under another withstand neither."""
    one, other = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    withstands = {("a", 0.3): one, ("b", 0.3): other, ("a", 1.0): np.zeros(4, bool)}
    assert measured(withstands=withstands).left() == 0.25


@pytest.mark.parametrize(
    "changes, name, label",
    [
        ({"SQUARE": 0.20}, "gradient-free against white-box", "masked"),
        ({"SQUARE": 0.52}, "gradient-free against white-box", "not masked"),
        ({"SQUARE": 0.48}, "gradient-free against white-box", "undecided"),
        ({"TRANSFER": 0.30}, "transfer against white-box", "masked"),
        ({"MARGIN": 0.0}, "margin against cross-entropy", "masked"),
        ({"MANY_STEPS": 0.30}, "more steps and restarts", "masked"),
        ({"MANY_STEPS": 0.90}, "more steps and restarts", "masked"),  # they help the defender
        ({"FEW_STEPS": 0.30}, "more steps and restarts", "masked"),
        ({"RESCALED": 0.10}, "scale of the logits", "masked"),
        ({"NOISE": 0.30}, "uniform noise against white-box", "masked"),
        ({"FGSM": 0.95}, "single step against noise", "masked"),
        ({"FGSM": 0.90}, "single step against noise", "undecided"),
        ({"FGSM": 0.60}, "single step against noise", "not masked"),
        ({"gradient": np.arange(200) / 190 > 0.4}, "zero gradients", "masked"),
        ({"gradient": np.full(200, 1e-20)}, "zero gradients", "not masked"),
        ({"gradient": np.full(200, 1e-39)}, "zero gradients", "masked"),
        ({"repeated": np.full(200, 0.1)}, "stochastic output", "masked"),
        ({"repeated": np.full(200, 5e-3)}, "stochastic output", "undecided"),
        ({"repeated": np.full(200, 1e-6)}, "stochastic output", "not masked"),
        ({"alone": np.full(32, 0.3)}, "training-mode layers", "masked"),
        ({"changed": ["dropout/seed"]}, "training-mode layers", "not masked"),
    ],
)
def test_each_test_by_itself(changes, name, label):
    assert labels_of(measured(**changes))[name] == label


@pytest.mark.parametrize(
    "labels, expected",
    [
        (["not masked", "undecided", "masked"], "masked"),
        (["not masked", "undecided"], "undecided"),
        (["not masked", "not masked"], "not masked"),
    ],
)
def test_the_most_serious_evidence_decides(labels, expected):
    assert evidence.most_serious(*labels) == evidence.most_serious(*labels[::-1]) == expected


@pytest.mark.parametrize(
    "share, label", [(0.0, "not masked"), (0.14, "undecided"), (0.5, "masked")]
)
def test_a_radius_of_1_has_to_break_everything(share, label):
    found = measured()
    found.withstands[measurements.PGD, 1.0] = np.arange(200) / 200 < share
    assert labels_of(found)["epsilon growing to 1"] == label


def test_accuracy_that_grows_with_the_radius():
    found = measured()
    found.withstands[measurements.PGD, 0.15] = np.arange(200) / 200 < 0.2  # 0.6 at 0.3
    assert labels_of(found)["epsilon growing to 1"] == "masked"


def test_few_images_leave_room_for_doubt():
    """The same share of missed images is clear on many images, and not on a few."""
    assert evidence._judged(0.2, 1000) == "masked"
    assert evidence._judged(0.2, 30) == "undecided"
