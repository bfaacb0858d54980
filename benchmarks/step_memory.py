"""What an image takes of memory in a training step of each defense, beside plain training.

Each row trains a Wide-ResNet in a process of its own, on batches of two sizes; the memory of
tensors at their peak grows by so much for each image, and the weights drop out. Once as TensorFlow
runs a step, and once with XLA compiling it. Run as `python -m benchmarks.step_memory`.
"""

from __future__ import annotations

from benchmarks import timing
from benchmarks.cost_model import SEED
from jarn_tf.reproduction import dry_run
from jarn_tf.reproduction.setting import ROWS
from jarn_tf.runs.presets import preset

ROWS_MEASURED = ("standard", "double_backprop", "jarn", "jarn_at", "pgd_at", "trades")
#: Of the paper's depth the first unit of each stage twice, narrow, so that two cores can do it.
NETWORK = {"network": "wide_resnet", "wide_resnet_units": 2, "wide_resnet_width": 2}
SIZES = (64, 128)  # of fewer images what XLA holds beside them shows


def main() -> None:
    timing.print_circumstances(SEED)
    print(
        f"\n{'MiB an image, Wide-ResNet of 2 units and width 2':<50}{'':>8}{'/ plain':>10}", end=""
    )
    print(f"{'XLA':>8}{'/ plain':>10}")
    plain = None
    for row in ROWS_MEASURED:
        images = [an_image(row, jit_compile) for jit_compile in (False, True)]
        plain = plain or images[0]
        cells = "".join(f"{mib:>8.2f}{mib / plain:>10.2f}" for mib in images)
        print(f"{ROWS[row]:<50}{cells}", flush=True)


def an_image(row: str, jit_compile: bool) -> float:
    """MiB that an image of a batch adds to a row's step."""
    config = preset("cifar10", row, "paper", strategy="none", jit_compile=jit_compile, **NETWORK)
    memory = dry_run.in_a_process(config, 1, SIZES).memory
    return (memory[SIZES[1]] - memory[SIZES[0]]) / (SIZES[1] - SIZES[0]) / 2**20


if __name__ == "__main__":
    main()
