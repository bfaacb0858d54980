"""The memory that tensors take at their peak in a training step of each defense.

Each row trains a Wide-ResNet in a process of its own: once as TensorFlow runs a step, and once with
XLA compiling it. Run as `python -m benchmarks.step_memory`.
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
BATCH = 128


def main() -> None:
    timing.print_circumstances(SEED)
    what = f"peak in MiB, Wide-ResNet of 2 units and width 2, batch {BATCH}"
    print(f"\n{what:<62}{'/ plain':>10}{'XLA':>8}{'/ plain':>10}")
    plain = None
    for row in ROWS_MEASURED:
        peaks = [peak(row, jit_compile) for jit_compile in (False, True)]
        plain = plain or peaks[0]
        cells = "".join(f"{mib:>8.0f}{mib / plain:>10.2f}" for mib in peaks)
        print(f"{ROWS[row]:<54}{cells}", flush=True)


def peak(row: str, jit_compile: bool) -> float:
    config = preset("cifar10", row, "paper", strategy="none", jit_compile=jit_compile, **NETWORK)
    return dry_run.in_a_process(config, 1, (BATCH,)).memory[BATCH] / 2**20


if __name__ == "__main__":
    main()
