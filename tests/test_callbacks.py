import csv
import json
import math
import shutil
import socket
import struct
import subprocess
import sys
import time
import types
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from events import written

from jarn_tf import JARN, Defense, attacks, callbacks, input_jacobian, networks
from jarn_tf.callbacks import robust_accuracy
from jarn_tf.evaluation import Attack


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# History


def test_rows_that_changed_since_are_noticed(tmp_path, capsys):
    path = tmp_path / "h.csv"
    first, again = callbacks.HistoryFile(path), callbacks.HistoryFile(path)
    first.on_epoch_end(0, {"loss": 2.5})
    first.on_epoch_end(1, {"adversarial_loss": -1.0, "loss": 2.0})  # a column that comes later
    again.digest = first.digest  # as `Backup` has it
    again.on_epoch_end(2, {"adversarial_loss": -1.5, "loss": 1.5})
    assert capsys.readouterr().out == ""
    path.write_text(path.read_text().replace("2.5", "2.4"))
    again.on_epoch_end(3, {"loss": 0.5})
    assert capsys.readouterr().out.startswith(f"Warning: {path} is not as it was written")
    assert [row["loss"] for row in rows_of(path)] == ["2.4", "2.0", "1.5", "0.5"]


def test_columns_may_come_later_and_no_value_is_an_empty_cell(tmp_path):
    history = callbacks.HistoryFile(tmp_path / "h.csv")
    history.on_epoch_end(0, {"loss": 2.5})
    history.on_epoch_end(1, {"loss": np.float32(1.5), "adversarial_loss": -1.25})
    history.on_epoch_end(2, {"loss": 0.5, "val_robust_accuracy": 0.75})
    assert rows_of(tmp_path / "h.csv") == [
        {"epoch": "0", "loss": "2.5", "adversarial_loss": "", "val_robust_accuracy": ""},
        {"epoch": "1", "loss": "1.5", "adversarial_loss": "-1.25", "val_robust_accuracy": ""},
        {"epoch": "2", "loss": "0.5", "adversarial_loss": "", "val_robust_accuracy": "0.75"},
    ]


@pytest.mark.parametrize("resumed_at", [0, 1, 2])
def test_a_resumed_run_replaces_the_rows_from_there_on(tmp_path, resumed_at):
    path = tmp_path / "h.csv"
    for epoch in range(3):
        callbacks.HistoryFile(path).on_epoch_end(epoch, {"loss": 10.0 + epoch})
    callbacks.HistoryFile(path).on_epoch_end(resumed_at, {"loss": 20.0})
    expected = [10.0 + epoch for epoch in range(resumed_at)] + [20.0]
    assert [float(row["loss"]) for row in rows_of(path)] == expected
    assert [int(row["epoch"]) for row in rows_of(path)] == list(range(resumed_at + 1))


def test_history_of_a_run(run_dir):
    """4 epochs; JARN's phase begins with the second."""
    rows = rows_of(run_dir / "history.csv")
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert [row["adversarial_loss"] == "" for row in rows] == [True, False, False, False]
    for row in rows:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_robust_accuracy"):
            assert math.isfinite(float(row[name]))


# Robust accuracy


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


@pytest.mark.parametrize("other", [Attack("fgsm", 0.2), Attack("pgd2", 0.1)])
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


# TensorBoard, read as a user's browser reads it


class Server:
    """The real `tensorboard` on loopback."""

    def __init__(self, logdir, *flags):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/data/plugin"
        command = ["-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port), "--load_fast", "false", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path, **query):
        url = f"{self.address}/{path}?{urllib.parse.urlencode(query)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return answer.read()

    def tags(self, plugin, *runs):
        """Run to its tags, once these runs have been read."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                found = json.loads(self.get(f"{plugin}/tags"))
                if all(found.get(run) for run in runs):
                    return found
            except OSError:
                pass
            time.sleep(0.5)
        pytest.fail("TensorBoard shows no run")


@pytest.fixture(scope="module")
def server(run_dir, tmp_path_factory):
    """Of a finished run and of `many`, a run of 12 pictures; as the run's last lines say."""
    logdir = tmp_path_factory.mktemp("logdir")
    for run in ("train", "validation"):
        shutil.copytree(run_dir / run, logdir / run)
    with tf.summary.create_file_writer(str(logdir / "many")).as_default():
        for step in range(12):
            tf.summary.image("jacobians", np.full((1, 2, 2, 1), step / 12), step)
    printed = (run_dir.parent / "stdout").read_text()
    (line,) = [line for line in printed.splitlines() if line.startswith("TensorBoard: ")]
    flags = [word for word in line.split() if word.startswith("--") and word != "--logdir"]
    server = Server(logdir, *flags)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def test_tensorboard_shows_losses_accuracies_and_rates(server, run_dir):
    tags = server.tags("scalars", "train", "validation")
    assert set(tags["train"]) >= {
        "loss/classification",
        "loss/adversarial",
        "accuracy/clean",
        "discriminator/accuracy_on_real_images",
        "discriminator/accuracy_on_adapted_jacobians",
        "learning_rate/classifier",
        "learning_rate/adaptor",
        "learning_rate/discriminator",
        "jacobian/norm",
    }
    assert set(tags["validation"]) >= {"loss/classification", "accuracy/clean", "accuracy/robust"}
    rows = rows_of(run_dir / "history.csv")
    for run, tag, column in (
        ("train", "loss/classification", "loss"),
        ("train", "loss/adversarial", "adversarial_loss"),
        ("validation", "accuracy/robust", "val_robust_accuracy"),
    ):
        points = json.loads(server.get("scalars/scalars", run=run, tag=tag))
        expected = [
            (4 * (i + 1), float(row[column])) for i, row in enumerate(rows) if row[column] != ""
        ]
        assert [(step, pytest.approx(value, rel=1e-5)) for _, step, value in points] == expected


def test_tensorboard_shows_the_picture_of_every_epoch(server):
    """Of inputs, Jacobians and adapted Jacobians; its default would be 10 of them."""
    assert list(server.tags("images", "train", "many")["train"]) == ["jacobians"]
    for run, steps in (("train", [0, 4, 8, 12, 16]), ("many", list(range(12)))):
        listed = json.loads(server.get("images/images", run=run, tag="jacobians", sample=0))
        assert [picture["step"] for picture in listed] == steps
    listed = json.loads(server.get("images/images", run="train", tag="jacobians", sample=0))
    png = server.get(f"images/individualImage?{listed[-1]['query']}&_=")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert width >= 8 * 3 * 28 and height >= 2 * 3 * 3 * 28  # 16 images, 8 in a row, three times


def test_pictures_of_the_start_and_of_each_epoch_but_not_of_where_a_run_goes_on(tmp_path):
    shape = (6, 6, 1)
    images, labels = np.random.default_rng(0).random((4, *shape), np.float32), np.arange(4) % 3
    model = Defense(toys.classifier(image_shape=shape))
    model.compile("sgd")
    jacobians = input_jacobian(model.classifier, images, labels).numpy()
    norm = np.linalg.norm(jacobians.reshape(4, -1), axis=1).mean()

    def fit(folder, first, last):
        callback = callbacks.TensorBoard(tmp_path / folder, images, labels)
        epochs = {"initial_epoch": first, "epochs": last}
        model.fit(images, labels, batch_size=2, verbose=0, callbacks=[callback], **epochs)
        return written(tmp_path / folder / "train")

    begun = fit("begun", 0, 2)
    assert [step for step, _ in begun["jacobians"]] == [0, 2, 4]
    assert begun["jacobian/norm"][0] == (0, pytest.approx(norm, rel=1e-5))
    assert [step for step, _ in fit("resumed", 2, 3)["jacobians"]] == [6]


def test_hparams_show_what_differs_beside_the_accuracies_under_attack(run_dir):
    """Of the folder above the runs, as several are compared there."""
    server = Server(run_dir.parent)
    request = {
        "experimentName": "",
        "startIndex": 0,
        "sliceSize": 10,
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
        "colParams": [],
    }
    try:
        group = first_group_with_metrics(server, json.dumps(request))
    finally:
        server.process.terminate()
        server.process.wait()
    assert group["name"] == str(run_dir)
    assert group["hparams"] == {
        "dataset": "digits",
        "defense": "jarn",
        "preset": "recommended",
        "seed": 0,
        "epochs": 4,
        "train_examples": 256,
        "test_examples": 64,
        "discriminator_filters": "(4, 8)",
        "adaptor_trainable": True,
        "epsilon": 8 / 255,
        "training_epsilon": 8 / 255,
        "keep_best_robust": True,
    }
    rows = json.loads((run_dir / "evaluation.json").read_text())["attacks"]
    metrics = {
        value["name"]["tag"]: value["value"]
        for value in group["metricValues"]
        if value["name"]["group"] == "test"
    }
    expected = {row["name"]: pytest.approx(row["accuracy"]) for row in rows}
    assert "pgd40" in expected
    assert metrics == {
        "accuracy/clean" if name == "clean" else f"accuracy/{name}_at_0.0314": accuracy
        for name, accuracy in expected.items()
    }


def first_group_with_metrics(server, request):
    """Once TensorBoard has read them all; the runs come one after the other."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            found = json.loads(server.get("hparams/session_groups", request=request))
            for group in found["sessionGroups"]:
                if any(value["name"]["group"] == "test" for value in group["metricValues"]):
                    return group
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail("TensorBoard shows no hyper-parameters with accuracies")


# Collapse


@pytest.mark.parametrize("to", [0, 2])
def test_a_constant_classifier_is_warned_of(to, capsys):
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), toys.CLASSES), np.float32)
    model = toys.linear_classifier(kernel, np.eye(toys.CLASSES, dtype=np.float32)[to])
    images, _ = toys.batch(9)
    callback = callbacks.CollapseWarning(images)
    callback.set_model(Defense(model))
    callback.on_epoch_end(4, {})
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("Warning", "epoch 5", "all 9", f"class {to}", "epsilon_warmup_fraction"):
        assert part in line


def test_a_classifier_that_tells_images_apart_is_not_warned_of(capsys):
    images, _ = toys.batch(9)
    model = toys.classifier()
    assert len(set(model(images).numpy().argmax(axis=1))) > 1
    callback = callbacks.CollapseWarning(images)
    callback.set_model(Defense(model))
    callback.on_epoch_end(0, {})
    assert capsys.readouterr().out == ""


# Catastrophic overfitting


@pytest.fixture(scope="module")
def bent():
    """A model of three classes, and a function that bends it.

    With d the distance of an image's first pixel from `bend`, class 0 leads the others by
    below * d - offset where the pixel is below `bend`, and by above * d - offset where it is above.
    """
    inputs = keras.Input(toys.IMAGE_SHAPE)
    hidden = keras.layers.Dense(2, activation="relu")(keras.layers.Flatten()(inputs))
    model = Defense(keras.Model(inputs, keras.layers.Dense(toys.CLASSES)(hidden)))

    def to(bend, below, above, offset):
        first = np.zeros((np.prod(toys.IMAGE_SHAPE), 2), np.float32)
        first[0] = [-1, 1]
        second = np.zeros((2, toys.CLASSES), np.float32)
        second[:, 0] = [below, above]
        bias = np.float32([-offset, 0, 0])
        model.classifier.set_weights([first, np.float32([bend, -bend]), second, bias])
        return model

    return to


def dip(at):
    """Wrong within 0.05 of `at` alone: a long step up the gradient ends where it is right again."""
    return {"bend": at, "below": 10.0, "above": 10.0, "offset": 0.5}


def line(at):
    """Right below `at`, wrong above it: the loss is as monotone as that of a linear model."""
    return {"bend": at, "below": 10.0, "above": -10.0, "offset": 0.0}


def fit_at_rest(model, *watching, epochs=3, images=None):
    """Plain Keras, with rates of 0; 2 steps an epoch."""
    optimizers = [keras.optimizers.SGD(0.0) for _ in model.OPTIMIZERS]
    model.compile(*optimizers, run_eagerly=True)
    given, labels = toys.batch(8)
    images = given if images is None else images
    model.fit(images, labels, batch_size=4, epochs=epochs, verbose=0, callbacks=list(watching))


def overfitting_lines(capsys, model, first_pixels, every=1, epochs=1):
    """PGD-10 at 0.3."""
    images = np.full((len(first_pixels), *toys.IMAGE_SHAPE), 0.5, np.float32)
    images[:, 0, 0, 0] = first_pixels
    labels = np.zeros(len(images), np.int32)
    robust = callbacks.RobustAccuracy(images, labels, Attack("pgd10", 0.3), every)
    fit_at_rest(model, robust, callbacks.CatastrophicOverfittingWarning(robust), epochs=epochs)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("every", "epoch"), [(1, 1), (2, 2)])
def test_catastrophic_overfitting_is_said_once(bent, capsys, every, epoch):
    """0.5 +- 0.3 holds the dip, and FGSM jumps over it; 0.05 +- 0.3 does not."""
    (said,) = overfitting_lines(capsys, bent(**dip(0.6)), [0.5] * 6 + [0.05] * 4, every, 4)
    for part in ("Warning", f"epoch {epoch} ", "FGSM leaves 100.0%", "pgd10 40.0%", "attack_steps"):
        assert part in said


@pytest.mark.parametrize(
    ("shape", "first_pixels"),
    [
        (dip(0.6), [0.5] * 5 + [0.05] * 5),  # FGSM 1, PGD 0.5: not less than half
        (dip(0.78), [0.5] * 9),  # FGSM 0: it stops in the dip
        (dip(0.78), [0.5] * 2 + [0.6] * 8),  # FGSM 0.8, PGD 0
        (line(0.7), [0.5] * 9),  # as a standard classifier: FGSM 0, PGD 0
        (line(0.7), [0.1] * 9 + [0.5]),  # as adversarial training: FGSM 0.9, PGD 0.9
        (line(0.7), [0.1] + [0.5] * 9),  # as early in it: FGSM 0.1, PGD 0.1
        (line(0.0), [0.5] * 9),  # all wrong
    ],
)
def test_no_catastrophic_overfitting(bent, capsys, shape, first_pixels):
    assert overfitting_lines(capsys, bent(**shape), first_pixels) == []


@pytest.mark.parametrize("attack", ["clean", "fgsm", "pgd1"])
def test_overfitting_to_a_step_shows_under_several_steps_only(attack):
    robust = callbacks.RobustAccuracy(*toys.batch(2), Attack(attack, 0.1))
    with pytest.raises(ValueError, match=f"several steps.*{attack}"):
        callbacks.CatastrophicOverfittingWarning(robust)


# JARN's game


def pixel_sum(scale, bias):
    """A discriminator: scale * the sum of the pixels + bias."""
    kernel = np.full((np.prod(toys.IMAGE_SHAPE), 1), scale, np.float32)
    return toys.linear_classifier(kernel, bias)


def game(discriminator, **options):
    """J is 0 everywhere, and J' = tanh(J) with it."""
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), toys.CLASSES), np.float32)
    classifier, adaptor = toys.linear_classifier(kernel), networks.adaptor(toys.IMAGE_SHAPE)
    return JARN(classifier, adaptor, discriminator, discriminator_interval=1, **options)


@pytest.mark.parametrize(("gan_loss", "epoch"), [("minimax", 1), ("non_saturating", 3)])
def test_a_discriminator_that_has_won_is_warned_of_once(capsys, gan_loss, epoch):
    """It takes what is not black for real, and every J' is black."""
    model = game(pixel_sum(1.0, -1.0), gan_loss=gan_loss)
    fit_at_rest(model, callbacks.DiscriminatorWonWarning())
    (said,) = capsys.readouterr().out.splitlines()
    for part in ("Warning", f"epoch {epoch} ", "100.0%", "discriminator_interval"):
        assert part in said
    assert ("gan_loss=non_saturating" in said) == (gan_loss == "minimax")


@pytest.mark.parametrize(
    ("scale", "bias", "start_step"),
    [
        (1.0, 1.0, 0),  # takes everything for real
        (-1.0, -1.0, 0),  # nothing
        (-1.0, 1.0, 0),  # and each for the other
        (1.0, -1.0, 2),  # an epoch of 2 steps: the phase has not begun
    ],
)
def test_a_discriminator_that_has_not_won(capsys, scale, bias, start_step):
    model = game(pixel_sum(scale, bias), start_step=start_step)
    fit_at_rest(model, callbacks.DiscriminatorWonWarning(), epochs=1)
    assert capsys.readouterr().out == ""


def test_a_discriminator_that_is_wrong_of_one_image_in_eight(capsys):
    images, _ = toys.batch(8)
    images[0] = 0
    watching = callbacks.DiscriminatorWonWarning()
    fit_at_rest(game(pixel_sum(1.0, -1.0)), watching, epochs=1, images=images)
    assert capsys.readouterr().out == ""


def drawing(picture=0.0, times=1.0):
    """An adaptor that draws tanh(times * J + picture), `picture` of the shape of the images."""
    inputs = keras.Input(toys.IMAGE_SHAPE)
    picture = np.broadcast_to(np.float32(picture), toys.IMAGE_SHAPE)
    return keras.Model(inputs, keras.ops.tanh(inputs * times + picture))


PICTURE = np.random.default_rng(5).uniform(-1, 1, toys.IMAGE_SHAPE)


def adaptor_lines(capsys, picture=0.0, times=1.0, sure=False, start_step=5, **options):
    """What is said after two epochs, 6 steps having been made.

    The labels are the classifier's own; where it is `sure`, its cross-entropy is flat.
    """
    classifier = toys.classifier()
    if sure:
        *others, kernel, bias = classifier.get_weights()
        classifier.set_weights([*others, 1e3 * kernel, 1e3 * bias])
    images, _ = toys.batch(30)
    labels = classifier(images).numpy().argmax(axis=1)
    options |= {"start_step": start_step}
    model = JARN(classifier, drawing(picture, times), toys.discriminator(), **options)
    model.compile("sgd", "sgd", "sgd")
    model.optimizer.iterations.assign(6)
    callback = callbacks.ConstantAdaptorWarning(images, labels, batch_size=20)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_epoch_end(epoch, {})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("flat", {"picture": 20.0}),  # saturated at 1
        ("flat", {"picture": 20.0, "standardize": True}),
        ("flat", {"picture": -20.0}),
        ("flat", {"sure": True}),
        ("one image", {"picture": PICTURE, "times": 0.0}),
        ("one image", {"picture": PICTURE, "times": 0.01}),
        ("one image", {"picture": PICTURE, "times": 0.0, "standardize": True}),
    ],
)
def test_a_constant_adaptor_is_warned_of_once(capsys, part, options):
    (said,) = adaptor_lines(capsys, **options)
    for expected in ("Warning", "epoch 1 ", "30", part, "adaptor_trainable"):
        assert expected in said


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"picture": 0.5 * PICTURE, "times": 20.0},
        {"picture": 1.0},  # bright, but with contrast
        {"times": 1e-4, "standardize": True},  # the discriminator sees it scaled
        {"sure": True, "jacobian_of": "logit"},
        {"picture": 20.0, "start_step": 6},  # the phase begins with the next step
    ],
)
def test_an_adaptor_that_draws_different_images(capsys, options):
    assert adaptor_lines(capsys, **options) == []


def test_a_healthy_run_is_not_warned_of(digits, digits_classifier, capsys):
    """The recommended options of JARN in a plain Keras workflow, made short."""
    train, held_out = digits.train.first(256), digits.validation.first(64)
    model = JARN(
        keras.models.clone_model(digits_classifier),
        networks.adaptor((28, 28, 1), trainable=False),
        networks.discriminator((28, 28, 1), filters=(4, 8)),
        adversarial_weight=0.1,
        discriminator_interval=2,
        start_step=4,
        perturb=attacks.UniformNoise(0.3, fraction=0.5),
        jacobian_of="logit",
        gan_loss="non_saturating",
        real_images="clean",
    )
    model.compile(keras.optimizers.Adam(0.01), "adam", keras.optimizers.Adam(5e-4))
    robust = callbacks.RobustAccuracy(held_out.floats, held_out.labels, Attack("pgd5", 0.1))
    history = model.fit(
        train.floats, train.labels, batch_size=64, epochs=4, verbose=0,
        callbacks=[
            robust,
            callbacks.CollapseWarning(held_out.floats),
            callbacks.CatastrophicOverfittingWarning(robust),
            callbacks.DiscriminatorWonWarning(),
            callbacks.ConstantAdaptorWarning(held_out.floats, held_out.labels),
        ],
    ).history  # fmt: skip
    assert history["accuracy"][-1] > 0.5  # it learned
    assert np.isfinite(history["discriminator_real_accuracy"][1:]).all()  # the game was played
    assert capsys.readouterr().out == ""


# A line an epoch


def epoch_lines(monkeypatch, capsys, epochs, seconds, logs, steps=(0,), start_step=0):
    """Lines of the last epochs, each of so many seconds; a JARN's step at the ends of them."""
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("jarn_tf.callbacks.epoch_line.time", clock)
    line = callbacks.EpochLine()
    model = types.SimpleNamespace(step=0, start_step=start_step)
    line.set_model(model)
    line.set_params({"steps": None, "epochs": epochs})
    for epoch, step in enumerate(steps, epochs - len(steps)):
        line.on_epoch_begin(epoch)
        line.on_train_batch_end(0)
        clock.now += seconds
        model.step = step
        line.on_epoch_end(epoch, logs)
    return capsys.readouterr().out.splitlines()


def test_a_line_of_an_epoch_fits_a_terminal(monkeypatch, capsys):
    """The longest there is: of JARN, whose phase began in this epoch of a long run."""
    logs = {
        "loss": 12.345, "accuracy": 0.98765, "val_loss": 1.0, "val_accuracy": 0.5,
        "val_robust_accuracy": 0.25, "adversarial_loss": -12.345,
        "discriminator_real_accuracy": 0.123, "discriminator_adapted_accuracy": 1.0,
    }  # fmt: skip
    steps = range(10, 9010, 10)
    first, *_ = epoch_lines(monkeypatch, capsys, 1000, 12345.0, logs, steps, start_step=5)
    assert len(first) <= 100
    assert first == (
        "101/1000, 12345 s: loss 12.3, train 0.988, val 0.500, attacked 0.250, D 0.12/1.00, "
        "over 3083 h left"
    )


@pytest.mark.parametrize(
    ("seconds", "left"), [(59.0, "118 s"), (61.0, "2 min"), (1800.0, "60 min"), (9000.0, "5 h")]
)
def test_a_line_says_how_long_is_left(monkeypatch, capsys, seconds, left):
    lines = epoch_lines(monkeypatch, capsys, 3, seconds, {"loss": 0.5}, (4, 8, 12))
    assert lines[0].endswith(f"loss 0.5, {left} left")
    assert lines[-1].endswith("loss 0.5")


def test_a_step_that_is_compiled_is_not_expected_again(monkeypatch, capsys):
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("jarn_tf.callbacks.epoch_line.time", clock)
    line = callbacks.EpochLine()
    line.set_params({"steps": None, "epochs": 3})
    line.on_epoch_begin(0)
    for batch, seconds in enumerate((100, 2, 2, 2)):
        clock.now += seconds
        line.on_train_batch_end(batch)
    line.on_epoch_end(0)
    assert capsys.readouterr().out == "1/3, 106 s: 16 s left\n"


def test_a_line_says_that_jarn_s_phase_is_to_come(monkeypatch, capsys):
    def over(start_step):
        of = epoch_lines(monkeypatch, capsys, 4, 1.0, {}, (10, 20, 30, 40), start_step)
        return [" over " in line for line in of]

    assert over(0) == over(40) == [False] * 4  # from the first step on; never
    assert over(20) == [True, True, False, False]
    assert over(25) == [True, True, True, False]


def test_a_line_has_what_there_is(monkeypatch, capsys):
    (line,) = epoch_lines(monkeypatch, capsys, 2, 1.0, {"loss": 0.5, "penalty": 0.25})
    assert line == "2/2, 1 s: loss 0.5, penalty 0.25"
