"""A step of each defense beside one written in PyTorch, on the paper's MNIST networks.

The PyTorch step is written as one would write it, with convolutions, without metrics and checks;
ours is `train_step`, with both. `torch.compile` stands beside it where it can: it does not
differentiate twice, which JARN and double backpropagation need.

Needs `pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu`. One core makes
the clearest comparison: `taskset -c 0 python -m benchmarks.torch_step`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from benchmarks.cost_model import SEED, random_batch, resting
from jarn_tf import JARN, Defense
from jarn_tf.runs.presets import preset

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    sys.exit("The module torch is missing. The top of this file says what to install.")

BATCH, ROUNDS, REPEATS = 128, 15, 3
#: Row of ours, the kind of its step, and the step of PyTorch that does the same.
PAIRS = {
    "Standard": ("standard", Defense.CLASSIFIER, "plain"),
    "Double Backprop": ("double_backprop", Defense.CLASSIFIER, "double_backprop"),
    "JARN, discriminator at rest": ("jarn", JARN.ADVERSARIAL, "jarn"),
    "JARN, discriminator learning": ("jarn", JARN.ADVERSARIAL_AND_DISCRIMINATOR, "jarn_learning"),
    "PGD-AT7": ("pgd_at", Defense.CLASSIFIER, "pgd_at"),
}


def main() -> None:
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    batch = random_batch("mnist", BATCH)
    sides = {}
    for name, (row, kind, _) in PAIRS.items():
        model = resting(preset("mnist", row, "paper", classifier_decay=()), "mnist")
        step = functools.partial(model.train_step, batch, kind)
        sides[name, "ours"] = timing.repeated(tf.function(step, autograph=False), REPEATS)
    for compiled in (False, True):
        peer = Peer(batch[0].numpy(), batch[1].numpy(), compiled)
        for name, (*_, step) in PAIRS.items():
            if not compiled or step in ("plain", "pgd_at"):
                label = "torch.compile" if compiled else "PyTorch"
                sides[name, label] = repeated(getattr(peer, step))
    taken = timing.seconds(sides, ROUNDS)
    timing.print_head("a step of PyTorch / ours")
    for name, label in sides:
        if label != "ours":
            timing.print_row(f"{name}, {label}", taken[name, label], taken[name, "ours"], "> 1")


def repeated(step: Callable[[], object]) -> Callable[[], None]:
    def run():
        for _ in range(REPEATS):
            step()

    return run


class Peer:
    """Steps of PyTorch on one batch, optimizers at rate 0 as ours."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, compiled: bool):
        torch.manual_seed(SEED)
        self.images = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
        self.labels = torch.tensor(labels.astype(np.int64))
        self.classifier = nn.Sequential(
            nn.ZeroPad2d(1), nn.Conv2d(1, 64, 5, 5), nn.ReLU(),
            nn.ZeroPad2d(2), nn.Conv2d(64, 128, 5, 5), nn.ReLU(),
            nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(128, 256, 5, 5), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 10),
        )  # fmt: skip
        self.adaptor = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Tanh())
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.1),
            nn.Conv2d(64, 128, 4, 2, 1), nn.LeakyReLU(0.1),
            nn.Flatten(), nn.Linear(128 * 7 * 7, 1),
        )  # fmt: skip
        networks = self.classifier, self.adaptor, self.discriminator
        self.theta, self.psi, self.phi = (torch.optim.Adam(n.parameters(), 0.0) for n in networks)
        if compiled:
            self.classifier = torch.compile(self.classifier)

    def moved(self, optimizer, loss) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def plain(self, images: torch.Tensor | None = None) -> None:
        images = self.images if images is None else images
        self.moved(self.theta, F.cross_entropy(self.classifier(images), self.labels))

    def loss_and_jacobian(self) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.images.clone().requires_grad_()
        losses = F.cross_entropy(self.classifier(images), self.labels, reduction="none")
        return losses.mean(), torch.autograd.grad(losses.sum(), images, create_graph=True)[0]

    def double_backprop(self) -> None:
        loss, jacobian = self.loss_and_jacobian()
        self.moved(self.theta, loss + 0.1 * jacobian.square().sum((1, 2, 3)).mean())

    def jarn(self, learns: bool = False) -> None:
        """Algorithm 1, the discriminator crossed once for classifier and adaptor."""
        loss, jacobian = self.loss_and_jacobian()
        adapted = self.adaptor(jacobian)
        judged = adapted.detach().requires_grad_()
        verdict = F.logsigmoid(-self.discriminator(judged)).mean()
        for optimizer in (self.theta, self.psi, self.phi):
            optimizer.zero_grad()
        if learns:
            real = F.logsigmoid(self.discriminator(self.images)).mean()
            (real + verdict).neg().backward()
            toward_image = -judged.grad
        else:
            (toward_image,) = torch.autograd.grad(verdict, judged)
        torch.autograd.backward([loss, adapted], [None, toward_image])
        for optimizer in (self.theta, self.psi, *([self.phi] if learns else [])):
            optimizer.step()

    def jarn_learning(self) -> None:
        self.jarn(learns=True)

    def pgd_at(self) -> None:
        start, radius, step_size = self.images, 0.3, 0.1
        images = (start + radius * (2 * torch.rand_like(start) - 1)).clamp(0, 1)
        for _ in range(7):
            images.requires_grad_()
            loss = F.cross_entropy(self.classifier(images), self.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, images)
            images = images.detach() + step_size * gradient.sign()
            images = start + (images - start).clamp(-radius, radius)
            images = images.clamp(0, 1)
        self.plain(images)


if __name__ == "__main__":
    main()
