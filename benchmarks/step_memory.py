"""What an image takes of memory in a training step of each defense, beside plain training.

Each row trains a Wide-ResNet in a process of its own, on batches of two sizes; the memory of
tensors at their peak grows by so much for each image, and the weights drop out. Run as
`python -m benchmarks.step_memory`.
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
SIZES = (32, 64)


def main() -> None:
    timing.print_circumstances(SEED)
    print(
        f"\n{'Wide-ResNet of 2 units a stage and width 2':<44}{'MiB an image':>14}{'/ plain':>10}"
    )
    plain = None
    for row in ROWS_MEASURED:
        config = preset("cifar10", row, "paper", strategy="none", **NETWORK)
        memory = dry_run.in_a_process(config, 1, SIZES).memory
        an_image = (memory[SIZES[1]] - memory[SIZES[0]]) / (SIZES[1] - SIZES[0]) / 2**20
        plain = plain or an_image
        print(f"{ROWS[row]:<44}{an_image:>14.2f}{an_image / plain:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
