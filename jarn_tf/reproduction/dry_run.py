"""What the training of an experiment's rows would take: memory and time, from a few steps of each.

No dataset is needed, as the images are random ones of its shape, and nothing is written. Each row
has a process of its own, so that one which does not fit into memory leaves the others alone.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, data
from jarn_tf.defense import Defense
from jarn_tf.jarn import JARN
from jarn_tf.reproduction.reproducing import find
from jarn_tf.reproduction.setting import CLASSES, IMAGES, ROWS, Setting
from jarn_tf.runs.builders import build_model, make_strategy
from jarn_tf.runs.config import Config

_OF_PHASE = (JARN.ADVERSARIAL, JARN.ADVERSARIAL_AND_DISCRIMINATOR)
#: Memory is extrapolated along the line through a batch and one so many times as large.
_LARGER = 4
_HEAD = (
    "model", "weights, millions", "step, s", "step in JARN's phase, s", "images/s", "run, h",
    "memory, GB",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the steps of one run took.

    Attributes:
        device: What they ran on, in words.
        weights: Trainable numbers of all networks.
        steps: Kind of step to how many the whole run has, in their order.
        seconds: Kind of step to its median wall time, on the first batch size.
        memory: Batch size to the most bytes that tensors had in use on any device.
    """

    device: str
    weights: int
    steps: dict[str, int]
    seconds: dict[str, float]
    memory: dict[int, int]


def estimate(setting: Setting, steps: int = 20, batch_size: int | None = None) -> str:
    """Takes a few steps of each row and says what its whole training would take.

    Args:
        setting: The experiment; its first seed counts.
        steps: Timed steps of each row, shared evenly by the kinds of step that its run has, at
            least one each. A first step of each kind compiles it and is not timed.
        batch_size: Images a step over all replicas; what is measured is then extrapolated to the
            preset's batch. None for that batch itself.

    Returns:
        A table in Markdown, a line a row, and how it was made. Seconds and images/s are wall time
        on the preset's batch, hours those of one training without validation and attacks; memory
        is that of tensors, in GB of 1e9 bytes, of the replica that had most.

    Raises:
        ValueError: A count below 1, a batch larger than the preset's, `table4`, which trains
            nothing, or an experiment that trains several runs of a row.
    """
    arguments.whole("dry_run", steps)
    if setting.experiment == "table4":
        raise ValueError("table4 trains nothing and times steps itself: run it without a dry run.")
    if find(setting.experiment).variants:
        raise ValueError(
            f"{setting.experiment} trains several runs of each row, of other lengths than the "
            "preset's. Take a dry run of a table, such as table1 or table3."
        )
    configs = {row: setting.config(row, setting.seeds[0]) for row in setting.rows}
    full = configs[setting.rows[0]].batch_size
    if batch_size is None:
        batch_size = full
    arguments.whole("dry_run_batch", batch_size)
    if batch_size > full:
        raise ValueError(
            f"dry_run_batch must be at most the preset's batch of {full}. Received: {batch_size}."
        )
    batch_sizes = sorted({batch_size, min(_LARGER * batch_size, full)})
    lines, hours, devices = [], 0.0, set()
    for number, (row, config) in enumerate(configs.items(), 1):
        print(f"[{number}/{len(configs)}] dry run: {ROWS[row]}", flush=True)
        try:
            measured = in_a_process(config, steps, batch_sizes)
        except MemoryError as error:
            lines.append([ROWS[row], str(error), *[""] * (len(_HEAD) - 2)])
            continue
        columns = _columns(measured, batch_size, full)
        lines.append([ROWS[row], *map(_shown, columns.values())])
        hours += columns["run, h"]
        devices.add(measured.device)
    how = ""
    if batch_size < full:
        how = (
            f" Extrapolated to batches of {full}: time in proportion to the images, memory along "
            f"the line through batches of {' and '.join(map(str, batch_sizes))}."
        )
    return "".join(
        [
            *(f"| {' | '.join(line)} |\n" for line in (_HEAD, ["---"] * len(_HEAD), *lines)),
            f"\n{setting.dataset}, scale {setting.scale}, preset {setting.preset}, seed "
            f"{setting.seeds[0]}, random images. {steps} steps of {batch_size} on "
            f"{', '.join(sorted(devices)) or 'no device that holds them'}, TensorFlow "
            f"{tf.__version__}.{how} One run of each row that fits: {_shown(hours)} h of training, "
            "without validation and attacks. Memory is that of tensors alone.\n",
        ]
    )


def _columns(measured: Measured, batch_size: int, full: int) -> dict[str, float | None]:
    """The numbers of a row by the names of `_HEAD`, extrapolated to batches of `full` images."""
    seconds = {kind: taken * full / batch_size for kind, taken in measured.seconds.items()}
    total = sum(seconds[kind] * count for kind, count in measured.steps.items())

    def mean(of_phase: bool) -> float | None:
        counts = {k: n for k, n in measured.steps.items() if (k in _OF_PHASE) == of_phase}
        taken = sum(seconds[kind] * count for kind, count in counts.items())
        return taken / sum(counts.values()) if counts else None

    sizes, peaks = list(measured.memory), list(measured.memory.values())
    slope = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else 0.0
    values = (
        measured.weights / 1e6,
        mean(of_phase=False),
        mean(of_phase=True),
        sum(measured.steps.values()) * full / total,
        total / 3600,
        (peaks[-1] + slope * (full - sizes[-1])) / 1e9,
    )
    return dict(zip(_HEAD[1:], values))


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def in_a_process(config: Config, steps: int, batch_sizes: Sequence[int]) -> Measured:
    """`measure` in a new process. MemoryError too where the system ends that process."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, initializer=_prepare) as process:
        try:
            return process.submit(measure, config, steps, batch_sizes).result()
        except concurrent.futures.process.BrokenProcessPool:
            raise MemoryError("process ended by the system: out of memory?") from None


def _prepare() -> None:
    """What a process needs before TensorFlow runs anything in it."""
    # The allocator that counts, as a GPU's does. A CPU has another one otherwise.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"
    tf.get_logger().setLevel("ERROR")  # notes on what each batch size compiles anew


def measure(config: Config, steps: int, batch_sizes: Sequence[int]) -> Measured:
    """Takes steps of a run, as `runs.training` does, on random images.

    Its memory is that of all that the process has done, and readable after `_prepare` alone.

    Args:
        config: The run.
        steps: Timed steps on batches of the first size, see `estimate`.
        batch_sizes: Images a step, in ascending order; of those after the first each kind of
            step is taken once, for its memory.

    Raises:
        MemoryError: Tensors do not fit.
    """
    image_shape, examples = IMAGES[config.dataset]
    examples = min(examples, config.train_examples or examples)
    total_steps = config.epochs * (examples // config.batch_size)
    strategy = make_strategy(config.strategy, config.replicas)
    keras.utils.set_random_seed(config.seed)
    try:
        with strategy.scope():
            model = build_model(config, image_shape, CLASSES, total_steps)
        of_run = collections.Counter(map(model.kind_of_step, range(total_steps)))
        each = 1 + max(1, steps // len(of_run))
        taken = _seconds(model, config, batch_sizes[0], [k for k in of_run for _ in range(each)])
        seconds = {
            kind: statistics.median(taken[i * each + 1 : (i + 1) * each])
            for i, kind in enumerate(of_run)
        }
        memory = {batch_sizes[0]: _peak_memory()}
        for batch_size in batch_sizes[1:]:
            _seconds(model, config, batch_size, list(of_run))
            memory[batch_size] = _peak_memory()
    except tf.errors.ResourceExhaustedError:
        raise MemoryError("out of memory") from None
    weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return Measured(_device(), weights, dict(of_run), seconds, memory)


def _seconds(model: Defense, config: Config, batch_size: int, kinds: list[str]) -> list[float]:
    """Wall time of one step of each of `kinds` in turn, batches of random images included."""
    image_shape, _ = IMAGES[config.dataset]
    rng = np.random.default_rng(config.seed)
    images = data.Split(
        rng.integers(0, 256, (batch_size, *image_shape), np.uint8),
        rng.integers(0, CLASSES, batch_size, np.int32),
    )
    ends = [time.perf_counter()]

    def end(batch, logs):
        tf.test.experimental.sync_devices()  # a GPU is still at work when the step returns
        ends.append(time.perf_counter())

    remaining = iter(kinds)
    model.kind_of_step = lambda step: next(remaining)
    model.fit(
        data.training_batches(images, batch_size, config.seed, 0, len(kinds), config.augment),
        steps_per_epoch=len(kinds),
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=end)],
    )
    return np.diff(ends).tolist()


def _peak_memory() -> int:
    """The most bytes in use so far, on the device that had most."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")[:1]
    return max(tf.config.experimental.get_memory_info(device.name)["peak"] for device in devices)


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"{os.cpu_count()} CPUs ({platform.machine()})"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "unknown")
    return f"{len(gpus)} GPUs ({name})"
