"""Workers agree, divide work, and name one that is gone."""

import functools
import json
import threading
import types

import commands
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import workers
from jarn_tf.callbacks.checkpoints import as_os_error
from jarn_tf.evaluation import Attack
from jarn_tf.files import read_json
from jarn_tf.resume import Part, Parts
from jarn_tf.runs import builders, evaluating
from jarn_tf.runs.workdir import locked

CLUSTER = {"worker": ["one:1", "two:2", "three:3"]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "worker 0",
        "[]",
        {"cluster": CLUSTER},
        {"cluster": CLUSTER, "task": {"type": "worker", "index": 3}},
        {"cluster": CLUSTER, "task": {"type": "worker", "index": -1}},
        {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}},
        {"cluster": CLUSTER | {"chief": ["four:4"]}, "task": {"type": "worker", "index": 0}},
    ],
)
def test_a_bad_tf_config(monkeypatch, content):
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG, which names workers"):
        builders.make_strategy("multi_worker")


#: What TensorFlow 2.21 raises, from the log of worker 1 of three.
RAISED = {
    2: (
        tf.errors.UnavailableError,
        "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/replica:0/task:1/"
        "device:CPU:0}} Collective ops is aborted by: Error reported from /job:worker/task:2: The "
        "following tasks are unhealthy (stopped sending heartbeats):\n"
        "/job:worker/replica:0/task:2\nThe tasks have crashed.",
    ),
    0: (
        tf.errors.DeadlineExceededError,
        "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/replica:0/task:1/"
        "device:CPU:0}} Collective ops is aborted by: Deadline Exceeded\n\nRPC: "
        "/tensorflow.CoordinationService/Heartbeat",
    ),
}


@pytest.mark.parametrize("gone", RAISED)
def test_which_worker_is_gone(monkeypatch, gone):
    monkeypatch.setattr(workers, "_STAY", 0)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(CLUSTER), task_type="worker", task_id=1
    )
    group = workers.Workers(types.SimpleNamespace(cluster_resolver=resolver))
    error, message = RAISED[gone]
    name = rf"^Worker {gone} \({CLUSTER['worker'][gone]}\) died"
    with pytest.raises(ConnectionError, match=name), group.together(), as_os_error("checkpoints"):
        raise error(None, None, message)


def test_workers_agree_and_name_a_gone_one():
    """Two processes: what they hand in is of any length, they refuse another, and one dies."""
    program = """
import os, sys
import launch
launch.import_library()
from jarn_tf import workers
workers._STAY = 0
group = workers.Workers(workers.connect())
with group.together():
    assert group.gather(b"abcdefghi"[group.index :]) == [b"abcdefghi", b"bcdefghi"]
    group.agree({"epochs": 1})
    try:
        group.agree({"epochs": 1, "jarn_tf": f"0.{group.index}"})
    except ValueError as error:
        print(error, file=sys.stderr, flush=True)
    group.gather(b"")  # who leaves before the other has read all would be a gone one too early
    if group.index:
        os._exit(9)
    group.gather(b"")
"""
    (first, other), addresses = commands.start_workers(["-c", program], ["-c", program])
    lines = first.communicate()[1].splitlines()
    (refused,) = [line for line in other.communicate()[1].splitlines() if line]
    assert refused in lines and "jarn_tf ('0.0' and '0.1')" in refused
    assert all(address in refused for address in addresses)
    assert lines[-1].startswith(f"ConnectionError: Worker 1 ({addresses[1]}) died")
    assert (first.returncode, other.returncode) == (1, 9)


class Together(workers.Workers):
    """One of two workers that are threads of one process."""

    def __init__(self, index, barrier, handed_in):
        super().__init__()
        self.index, self.count, self.first = index, 2, index == 0
        self.barrier, self.handed_in = barrier, handed_in

    def gather(self, mine):
        self.handed_in[self.index] = mine
        self.barrier.wait(60)
        found = list(self.handed_in)
        self.barrier.wait(60)
        return found


def test_parts_are_divided_and_the_first_worker_writes(tmp_path):
    barrier, handed_in = threading.Barrier(2), [b"", b""]
    computed, found = ([], []), [None, None]

    def work(index):
        parts = Parts(tmp_path / "state", {}, Together(index, barrier, handed_in))

        def compute(number):
            computed[index].append(number)
            return {"x": np.full(number + 1, number)}

        found[index] = [part["x"].tolist() for part in parts.each(jobs(compute))]

    def jobs(compute):
        return [
            Part(str(n), {"x": ((n + 1,), "int64")}, functools.partial(compute, n))
            for n in range(5)
        ]

    threads = [threading.Thread(target=work, args=[index]) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = [[0], [1, 1], [2] * 3, [3] * 4, [4] * 5]
    assert found == [expected, expected]
    assert computed == ([0, 2, 4], [1, 3])
    kept = Parts(tmp_path / "state", {}).each(jobs(lambda number: pytest.fail("computed again")))
    assert [part["x"].tolist() for part in kept] == expected


def test_a_lock_that_worker_0_cannot_have_is_said_by_all(tmp_path):
    barrier, handed_in, said = threading.Barrier(2), [b"", b""], [None, None]

    def work(index):
        try:
            with Together(index, barrier, handed_in).first_holds(locked(tmp_path)):
                pass
        except ValueError as error:
            said[index] = str(error)

    with locked(tmp_path):
        threads = [threading.Thread(target=work, args=[index]) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert said[0].startswith(f"Another process works in {tmp_path}")
    assert said[1].startswith("Worker 0") and said[1].endswith(said[0])


@pytest.mark.slow
def test_two_workers_attack_as_one(tmp_path, rng):
    """Three parts of images, and the verdict: the same results and images as of one process."""
    toys.classifier(image_shape=(6, 6, 1)).save(tmp_path / "model.keras")
    images, labels = toys.batch(1100, image_shape=(6, 6, 1))
    np.savez(
        tmp_path / "images.npz", x_train=images[:50], y_train=labels[:50], x_test=images,
        y_test=labels,
    )  # fmt: skip
    dataset = f"npz:{tmp_path / 'images.npz'}"
    command = [
        "-m", "launch.evaluate", "--strategy=multi_worker", f"--model={tmp_path / 'model.keras'}",
        f"--dataset={dataset}", f"--output={tmp_path / 'two'}", "--attacks=pgd5,square",
        "--epsilon=0.02", "--verdict",
    ]  # fmt: skip
    started, _ = commands.start_workers(command, command)
    target = evaluating.saved_model(tmp_path / "model.keras", dataset, tmp_path / "one")
    attacks = [Attack("pgd5", 0.02), Attack("square", 0.02)]
    evaluating.evaluate(target, attacks, verdict_epsilon=0.02)
    for worker in started:
        error = worker.communicate()[1]
        assert worker.returncode == 0, error
    one, two = (read_json(tmp_path / name / "evaluation.json") for name in ("one", "two"))
    for row in (*one["attacks"], *two["attacks"]):
        del row["seconds"]
    assert two.pop("command").startswith("python -m launch.evaluate --model=")
    assert one.pop("command") is None
    assert two == one
    adversarial = "adversarial/epsilon_0.02.npz"
    one, two = (np.load(tmp_path / name / adversarial) for name in ("one", "two"))
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_array_equal(two[name], one[name], err_msg=name)
