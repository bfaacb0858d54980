"""Kills runs with SIGKILL and compares what they end with to unbroken ones. Linux.

A run of JARN on digits with a checkpoint every fifth of a second, and a small table of
`launch.reproduce`, are killed at random moments, or at places chosen by lot: before, within and
after the writing of a checkpoint, before and after a file gets its name. After some kills the same
call goes on to the end. Printed are the kills, the runs that did not start again, and those whose
weights, optimizers' slots (SHA-256), `history.csv` or table differ from the unbroken ones.

Each attempt is a fork of this process, which has imported TensorFlow and not used it. Run as
`python -m benchmarks.reliability --kills=200`.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks import timing
from jarn_tf import callbacks
from jarn_tf.reproduction import reproducing
from jarn_tf.runs import training
from jarn_tf.runs.presets import preset

SEED = 0
#: Kills of one run before it may end.
KILLS_A_RUN = 5
CONFIG = preset(
    "digits",
    "jarn",
    epochs=6,
    batch_size=64,
    train_examples=512,
    test_examples=64,
    discriminator_filters=(4, 8),
    adaptor_trainable=True,
    keep_best_robust=True,
    jarn_start_fraction=0.5,
    checkpoint_seconds=0.2,
)


def train(folder: pathlib.Path) -> None:
    training.train(CONFIG, folder)


def reproduce(folder: pathlib.Path) -> None:
    setting = reproducing.make_setting(
        "table1", folder, dataset="digits", scale="smoke", rows=("standard", "jarn")
    )
    reproducing.reproduce(setting)


#: Of four runs that are killed three are of training.
TARGETS = (train, train, train, reproduce)


def kill(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_checkpoint(count: int) -> None:
    _patch(callbacks.Backup, "_save", count, before=kill)


def within_checkpoint(count: int) -> None:
    """Some hundred microseconds after its writing began; it takes some milliseconds."""
    delay = random.uniform(0, 0.02)
    _patch(callbacks.Backup, "_save", count, before=threading.Timer(delay, kill).start)


def after_checkpoint(count: int) -> None:
    _patch(callbacks.Backup, "_save", count, after=kill)


def before_rename(count: int) -> None:
    _patch(os, "replace", count, before=kill)


def after_rename(count: int) -> None:
    _patch(os, "replace", count, after=kill)


PLACES = (before_checkpoint, within_checkpoint, after_checkpoint, before_rename, after_rename)


def _patch(owner, name: str, count: int, before: Callable = None, after: Callable = None) -> None:
    """Has something done around a call, that of a number counted from 1."""
    original, calls = getattr(owner, name), 0

    def patched(*args):
        nonlocal calls
        calls += 1
        if calls == count and before:
            before()
        original(*args)
        if calls == count and after:
            after()

    setattr(owner, name, patched)


def attempt(work: Callable, folder: pathlib.Path, seconds: float | None, place=None) -> int:
    """The exit status of a call in a process of its own, negative where a signal ended it.

    Args:
        work, folder: What is called.
        seconds: Seconds after which it is killed, unless it has ended.
        place: One of `PLACES` and a count, at which it kills itself.
    """
    sys.stdout.flush()
    process = os.fork()
    if not process:
        status = 1
        try:
            log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            if place is not None:
                place[0](place[1])
            work(folder)
            status = 0
        except BaseException as error:  # said in the log, as the command would
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def outcome(folder: pathlib.Path) -> str:
    """SHA-256 of the weights and slots of every model and of every table below a folder."""
    place = pathlib.Path(f"{folder}.sha256")
    assert not attempt(lambda folder: place.write_text(_digest(folder)), folder, None)
    return place.read_text()


def _digest(folder: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("model.keras")):
        model = keras.models.load_model(path)
        for name in ("classifier", "adaptor", "discriminator"):
            owners = [getattr(model, name, None), getattr(model, f"{name}_optimizer", None)]
            for variable in (v for owner in owners if owner is not None for v in owner.variables):
                digest.update(np.asarray(variable).tobytes())
    for path in sorted(folder.rglob("*.csv")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    kills = parser.parse_args().kills
    timing.print_circumstances(SEED)
    generator = random.Random(SEED)
    found = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        expected, lasted = {}, {}
        for work in dict.fromkeys(TARGETS):
            started = time.monotonic()
            assert not attempt(work, folder / work.__name__, None)
            lasted[work] = time.monotonic() - started
            expected[work] = outcome(folder / work.__name__)
        while found["kills"] < kills:
            work = TARGETS[found["runs"] % len(TARGETS)]
            run = folder / f"{found['runs']}"
            found["runs"] += 1
            for _ in range(KILLS_A_RUN):
                if generator.random() < 0.5:
                    place = generator.choice(PLACES), generator.randint(1, 8)
                    status = attempt(work, run, None, place)
                    found[f"  {place[0].__name__}"] += status == -signal.SIGKILL
                else:
                    status = attempt(work, run, generator.uniform(0, 1.2 * lasted[work]))
                    found["  at a random moment"] += status == -signal.SIGKILL
                found["kills"] += status == -signal.SIGKILL
                found["did not start again"] += status > 0
            found["did not start again"] += attempt(work, run, None) != 0
            found["differ at the end"] += outcome(run) != expected[work]
            print(".", end="", flush=True)
    print()
    for name in ("runs", "did not start again", "differ at the end"):
        print(f"{name:<24} {found.pop(name):>4}")
    for name, count in sorted(found.items(), reverse=True):
        print(f"{name:<24} {count:>4}")


if __name__ == "__main__":
    main()
