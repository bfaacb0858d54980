"""TensorBoard as a user's browser reads it."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
import toys
from events import written

from jarn_tf import Defense, callbacks, input_jacobian
from jarn_tf.runs.workdir import Workdir


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
    rows = Workdir(run_dir).epochs()
    for run, tag, column in (
        ("train", "loss/classification", "loss"),
        ("train", "loss/adversarial", "adversarial_loss"),
        ("validation", "accuracy/robust", "val_robust_accuracy"),
    ):
        points = json.loads(server.get("scalars/scalars", run=run, tag=tag))
        expected = [(4 * (i + 1), row[column]) for i, row in enumerate(rows) if column in row]
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
