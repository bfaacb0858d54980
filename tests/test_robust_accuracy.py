"""Accuracy under attack after epochs, and the best classifier kept."""

import json

import keras
import numpy as np
import pytest
import toys

from jarn_tf import Defense, callbacks
from jarn_tf.callbacks import robust_accuracy
from jarn_tf.evaluation import Attack


@pytest.mark.parametrize("model", [Defense(toys.classifier()), toys.classifier()])
def test_robust_accuracy_every_n_epochs(model):
    """Of a `Defense` and of a plain Keras classifier."""
    images, labels = toys.batch(20)
    attack = Attack("fgsm", 0.05)
    callback = callbacks.RobustAccuracy(images, labels, attack, every=2)
    callback.set_model(model)
    found = []
    for epoch in range(4):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        found.append(logs)
    classifier = toys.classifier()  # of the same seed
    adversarial = attack(classifier, images, labels)
    right = (classifier(adversarial).numpy().argmax(axis=1) == labels).mean()
    expected = {"val_robust_accuracy": pytest.approx(right)}
    assert found == [{}, expected, {}, expected]


# The best robust classifier. Each epoch ends in a classifier that gives every image one class, so
# its accuracy, under whatever attack, is that class's share of the labels; its bias says its epoch.

LABELS = np.repeat([0, 1, 2], [2, 5, 3]).astype(np.int32)
SHARES = [0.2, 0.5, 0.3]
ATTACK = Attack("fgsm", 0.1)


@pytest.fixture(scope="module")
def train_constant():
    """Epochs from `first` on; epoch i ends in a classifier of bias i + 2 for class constants[i]."""
    images, _ = toys.batch(len(LABELS))
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), toys.CLASSES), np.float32)
    model = Defense(toys.linear_classifier(kernel))

    def train(path, constants, first=0, every=1, attack=ATTACK):
        callback = callbacks.RobustAccuracy(images, LABELS, attack, every, keep_best=path)
        callback.set_model(model)
        callback.on_train_begin()
        for epoch in range(first, len(constants)):
            bias = (epoch + 2) * np.eye(toys.CLASSES, dtype=np.float32)[constants[epoch]]
            model.classifier.set_weights([kernel, bias])
            callback.on_epoch_end(epoch, {})

    return train


def kept(path):
    """Epoch of the classifier in the file, epoch and accuracy in the file beside it."""
    bias = keras.models.load_model(path).get_weights()[1]
    note = json.loads(path.with_suffix(".json").read_text())
    return int(bias.max()) - 2, note["epoch"], note["val_robust_accuracy"]


@pytest.mark.parametrize("constants", [(0, 1, 2, 1), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("stopped_after", range(3))
@pytest.mark.parametrize("again", [0, 1])
def test_the_best_classifier_is_kept_however_training_is_interrupted(
    train_constant, tmp_path, constants, stopped_after, again
):
    """`again`: whether training resumes before the last epoch that it had ended."""
    path = tmp_path / "new" / "best.keras"
    train_constant(path, constants[:stopped_after])
    train_constant(path, constants, first=max(stopped_after - again, 0))
    accuracies = [SHARES[c] for c in constants]
    best = int(np.argmax(accuracies))  # the first of several
    assert kept(path) == (best, best, pytest.approx(accuracies[best]))


def test_the_best_of_the_epochs_that_are_evaluated(train_constant, tmp_path):
    train_constant(tmp_path / "best.keras", [1, 0, 1, 2, 1], every=2)
    assert kept(tmp_path / "best.keras")[0] == 3


def test_a_worse_classifier_never_replaces_a_better_one(train_constant, tmp_path):
    path = tmp_path / "best.keras"
    train_constant(path, [0, 1])
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    train_constant(path, [0, 2])
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before


def test_stopped_between_the_two_files(train_constant, tmp_path, monkeypatch):
    path = tmp_path / "best.keras"
    train_constant(path, [0])

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(robust_accuracy, "write_json", stop)
        train_constant(path, [0, 1], first=1)
    train_constant(path, [0, 1, 2], first=1)
    assert kept(path) == (1, 1, 0.5)


@pytest.mark.parametrize(
    "other", [Attack("fgsm", 0.2), Attack("pgd2", 0.1), Attack("fgsm", 0.1, norm="l2")]
)
def test_the_best_under_another_attack_is_not_compared_with(train_constant, tmp_path, other):
    path = tmp_path / "best.keras"
    train_constant(path, [1])
    with pytest.raises(
        ValueError, match="best.keras is the best.*another attack: fgsm at 0.1, now"
    ):
        train_constant(path, [1], attack=other)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"val_robust_accuracy": "high"}'])
def test_a_damaged_note_is_named(train_constant, tmp_path, content):
    path = tmp_path / "best.keras"
    train_constant(path, [1])
    path.with_suffix(".json").write_text(content)
    with pytest.raises(ValueError, match="best.json"):
        train_constant(path, [1])


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 1.5}, {"keep_best": "best.h5"}])
def test_values_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        callbacks.RobustAccuracy(*toys.batch(2), ATTACK, **wrong)
