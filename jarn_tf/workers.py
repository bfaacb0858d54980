"""Several processes, on one machine or more, that work as one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from jarn_tf import differences

#: Seconds that a worker stays after a failure. TensorFlow takes a worker for dead that has not been
#: heard of for 10 s. Who left before all have been told would be taken for the one that died first.
_STAY = 15

#: What TensorFlow raises in the others when a worker is gone.
WORKER_GONE = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)


def connect() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of the workers that the variable `TF_CONFIG` names; waits until all are there.

    Call it before TensorFlow is used. While it waits, TensorFlow hears no signal but SIGKILL.

    Raises:
        ValueError: There is no `TF_CONFIG`, or it is not of workers and one of them.
    """
    print(f"{_this_worker(os.environ.get('TF_CONFIG', ''))}: waiting for all.", flush=True)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    if threading.current_thread() is threading.main_thread():
        # TensorFlow has put a handler of its own in its place, which ends nothing.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _this_worker(text: str) -> str:
    """Which worker a `TF_CONFIG` says that this one is."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        content = json.loads(text)
        task, (job,) = content["task"], content["cluster"]
        addresses = dict(enumerate(content["cluster"][job]))
        if job == task["type"] == "worker":
            index = int(task["index"])
            return f"Worker {index} of {len(addresses)} ({addresses[index]})"
    raise ValueError(
        "strategy=multi_worker needs the variable TF_CONFIG, which names workers, and this one "
        'among them: {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": '
        f'"worker", "index": 0}}}}. Received: {text or "none"}.'
    )


class Workers:
    """The workers of a strategy, all of which make the same calls in the same order.

    Args:
        strategy: That of `connect`; any other, or None, is a worker alone.

    Attributes:
        index: Number of this worker, from 0.
        count: How many there are.
        first: Whether this is worker 0, which alone writes files.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        self._strategy = strategy
        resolver = strategy and strategy.cluster_resolver
        self._addresses = resolver.cluster_spec().job_tasks("worker") if resolver else [""]
        self.index = resolver.task_id if resolver else 0
        self.count = len(self._addresses)
        self.first = self.index == 0

    def gather(self, mine: bytes) -> list[bytes]:
        """What each worker hands in, in their order; returns once all have."""
        if self.count == 1:
            return [mine]
        # As numbers of a type that every collective operation takes, behind their length.
        padded = np.frombuffer(mine + b"\0" * (-len(mine) % 8), np.int64)
        numbers = np.concatenate([[len(mine)], padded])
        replicas = self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(numbers)
        )
        gathered = self._strategy.gather(replicas, axis=0).numpy()
        found = []
        while len(gathered):
            length, gathered = gathered[0], gathered[1:]
            taken = -(-length // 8)
            found.append(gathered[:taken].tobytes()[:length])
            gathered = gathered[taken:]
        return found[:: len(found) // self.count]  # each replica of a worker hands in the same

    def agree(self, mine: dict[str, Any]) -> None:
        """Raises ValueError, in all workers, if one comes with other values than worker 0.

        Args:
            mine: What has to be the same, as JSON values.
        """
        first, *others = (json.loads(text) for text in self.gather(json.dumps(mine).encode()))
        for index, theirs in enumerate(others, 1):
            if changed := differences.in_words(first, theirs, "{} and {}"):
                raise ValueError(
                    f"{self._name(0)} and {self._name(index)} must do the same. Different: "
                    f"{changed}. Start all with the same command, versions and data, "
                    "on a folder that all see."
                )

    @contextlib.contextmanager
    def first_holds(self, lock: contextlib.AbstractContextManager) -> Iterator[None]:
        """A scope in which worker 0 holds a lock for all.

        Raises:
            OSError, ValueError: As the lock in worker 0; in the others a ValueError with its words.
        """
        refused = None
        with contextlib.ExitStack() as held:
            try:
                if self.first:
                    held.enter_context(lock)
            except (OSError, ValueError) as error:
                refused = error
            reason = self.gather(str(refused or "").encode())[0].decode()
            if reason:
                raise refused or ValueError(f"{self._name(0)}: {reason}")
            yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Ends when all workers have come to its end, or when one is gone.

        Raises:
            ConnectionError: One is gone; its message names it.
        """
        try:
            yield
            self.gather(b"")
        except WORKER_GONE as error:
            if self.count == 1:
                raise
            time.sleep(_STAY)
            raise ConnectionError(
                f"{self._name(self._gone(error.message))} died or cannot be reached. The same "
                "commands again continue."
            ) from None

    def _gone(self, message: str) -> int:
        """Which worker TensorFlow means; it names none where worker 0 is gone, who watches."""
        named = map(int, re.findall(r"/task:(\d+)\b(?!/device)", message))
        return next((index for index in named if index != self.index), 0)

    def _name(self, index: int) -> str:
        return f"Worker {index} ({self._addresses[index]})"
