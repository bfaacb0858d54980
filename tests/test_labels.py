"""Labels [n, 1], as `keras.datasets.cifar10.load_data()` has them, do what labels [n] do."""

import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import Defense, attacks, evaluation, input_jacobian, losses
from jarn_tf.evaluation.masking import verdict

IMAGES, LABELS = toys.batch(12)
COLUMN = LABELS[:, None].astype(np.uint8)
ONE_HOT = np.eye(toys.CLASSES, dtype=np.float32)[LABELS]
FGSM = [evaluation.Attack("fgsm", 0.05)]


def accuracies(classifier, labels):
    rows = evaluation.robustness(classifier, IMAGES, labels, FGSM, progress=False)
    return [row["accuracy"] for row in rows]


TAKE_LABELS = {
    "attack": lambda model, labels: attacks.fgsm(model, IMAGES, labels, epsilon=0.05),
    "attack on a dataset": lambda model, labels: attacks.fgsm(
        model, tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(5), epsilon=0.05
    ),
    "robustness": accuracies,
    "transfer": lambda model, labels: [
        found["fgsm"]
        for found in evaluation.transfer({"it": model}, model, IMAGES, labels, FGSM).values()
    ],
    "jacobian": lambda model, labels: input_jacobian(model, IMAGES, labels),
    "loss": lambda model, labels: losses.CrossEntropy()(labels, model(IMAGES)),
}


@pytest.mark.parametrize("name", TAKE_LABELS)
@pytest.mark.parametrize("labels", [COLUMN, ONE_HOT], ids=["column", "one-hot"])
def test_kinds_of_labels(name, labels):
    model = toys.classifier()
    expected = np.asarray(TAKE_LABELS[name](model, LABELS))
    np.testing.assert_array_equal(np.asarray(TAKE_LABELS[name](model, labels)), expected)


def test_the_verdict_is_of_integers(monkeypatch):
    taken = []

    def measure(classifier, images, labels, *rest):
        taken.append(labels)
        raise KeyboardInterrupt  # before minutes of attacks

    monkeypatch.setattr(verdict, "measure", measure)
    for labels in (COLUMN, ONE_HOT):
        with pytest.raises(KeyboardInterrupt):
            evaluation.masking_verdict(toys.classifier(), IMAGES, labels, epsilon=0.1)
        np.testing.assert_array_equal(taken[-1], LABELS)


def test_training():
    after = []
    for labels in (LABELS, COLUMN):
        model = Defense(toys.classifier())
        model.compile("adam")
        model.fit(IMAGES, labels, batch_size=6, shuffle=False, verbose=0)
        after.append(toys.state(model))
    toys.assert_same(*after)


def test_a_column_of_no_classes_is_refused():
    for column in (LABELS[:, None] / 2, LABELS[:, None] + toys.CLASSES, np.zeros((12, 2))):
        with pytest.raises(ValueError, match="labels") as error:
            attacks.fgsm(toys.classifier(), IMAGES, column, epsilon=0.05)
        assert "\n" not in str(error.value)
