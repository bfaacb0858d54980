import csv
import json
import math
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import toys

from jarn_tf import Defense, callbacks
from jarn_tf.evaluation import Attack


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# History


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


def test_robust_accuracy_every_n_epochs():
    images, labels = toys.batch(20)
    model = Defense(toys.classifier())
    attack = Attack("fgsm", 0.05)
    callback = callbacks.RobustAccuracy(images, labels, attack, every=2)
    callback.set_model(model)
    found = []
    for epoch in range(4):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        found.append(logs)
    adversarial = attack(model.classifier, images, labels)
    right = (model.classifier(adversarial).numpy().argmax(axis=1) == labels).mean()
    expected = {"val_robust_accuracy": pytest.approx(right)}
    assert found == [{}, expected, {}, expected]


# TensorBoard, read as a user's browser reads it


class Server:
    """The real `tensorboard` on loopback."""

    def __init__(self, logdir):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/data/plugin"
        command = ["-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port), "--load_fast", "false"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path, **query):
        url = f"{self.address}/{path}?{urllib.parse.urlencode(query)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return answer.read()

    def tags(self, plugin):
        """Run to its tags, once both runs have been read."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                found = json.loads(self.get(f"{plugin}/tags"))
                if found.get("train"):
                    return found
            except OSError:
                pass
            time.sleep(0.5)
        pytest.fail("TensorBoard shows no run")


@pytest.fixture(scope="module")
def server(run_dir):
    server = Server(run_dir)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def test_tensorboard_shows_losses_accuracies_and_rates(server, run_dir):
    tags = server.tags("scalars")
    assert set(tags["train"]) >= {
        "loss/classification",
        "loss/adversarial",
        "accuracy/clean",
        "discriminator/accuracy_on_real_images",
        "discriminator/accuracy_on_adapted_jacobians",
        "learning_rate/classifier",
        "learning_rate/adaptor",
        "learning_rate/discriminator",
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


def test_tensorboard_shows_images_and_jacobians(server):
    tags = server.tags("images")["train"]
    assert set(tags) >= {"input", "jacobian", "adapted_jacobian"}
    for tag in ("input", "jacobian", "adapted_jacobian"):
        listed = json.loads(server.get("images/images", run="train", tag=tag, sample=0))
        png = server.get(f"images/individualImage?{listed[-1]['query']}&_=")
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width >= 2 * 28 and height >= 2 * 28  # 16 images of 28x28 as a grid
        assert width * height >= 16 * 28 * 28


def test_hparams_show_settings_beside_the_accuracies_under_attack(run_dir, tiny_config):
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
    shown = group["hparams"]
    assert shown["adversarial_weight"] == tiny_config.adversarial_weight
    assert shown["defense"] == "jarn"
    assert shown["adaptor_trainable"] is True
    assert shown["classifier_optimizer.learning_rate"] == 0.001
    rows = json.loads((run_dir / "evaluation.json").read_text())["attacks"]
    metrics = {
        value["name"]["tag"]: value["value"]
        for value in group["metricValues"]
        if value["name"]["group"] == "test"
    }
    expected = {f"accuracy/{row['name']}": pytest.approx(row["accuracy"]) for row in rows}
    assert "accuracy/pgd40" in expected
    assert metrics == expected


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
