"""AutoAttack against its peers: what it finds, and how fast.

1. Robust accuracy of 500 MNIST test images at epsilon 0.3 (in L2 at 1.5, without ART), under each
   attack of AutoAttack's "standard" alone and under all of them: `attacks` beside the authors'
   PyTorch code (as the package pyautoattack 0.2.0 has it), which reaches the classifier through the
   adapter below, and beside ART 1.20.1 where it has the attack. Lower is stronger; differences of
   an image or two are chance. ART's APGD starts from steps of 2 epsilon here, as published, not
   from its default 0.1. It looks at its last point alone, so what it misclassified on the way does
   not count.
2. Time of "standard" on 100 images, once, after a few images that compile everything: ours, the
   authors' code through the adapter, and the authors' code on the same network in PyTorch, layer by
   layer. ART's `AutoAttack` comes last, as it is (five restarts, untargeted, and DeepFool for FAB).
   The peers get all images in one batch, through the adapter a compiled classifier, and PyTorch the
   one thread with which the adapter was fastest on two cores.

Three classifiers: after standard training, training on uniform noise, and adversarial training,
each for a few epochs here; or those in the files given:

    python -m benchmarks.autoattack [--norm=l2] [--without-art] [--speed-only] [FILE.keras ...]

Needs MNIST as `data.load` finds it and, beyond requirements.txt,

    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    pip install pyautoattack==0.2.0 adversarial-robustness-toolbox==1.20.1 multiprocess==0.70.19

best in an environment of its own, as PyTorch is large (without that index: gigabytes of CUDA).
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import sys
import time
import types
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import Defense, attacks, data, networks

try:
    import multiprocess  # noqa: F401  (ART's AutoAttack imports it without declaring it)
    import pyautoattack
    import torch
    from art.attacks import evasion as art
    from art.estimators.classification import TensorFlowV2Classifier
    from pyautoattack.fab_tf import FABAttack_TF
except ImportError as error:
    sys.exit(f"The module {error.name} is missing. The top of this file says what to install.")

SEED = 0
EPSILON = {"linf": 0.3, "l2": 1.5}
AGREEMENT_IMAGES, SPEED_IMAGES, FIRST = 500, 100, 32
TRAINING_BATCH, EPOCHS, ADVERSARIAL_EPOCHS, WARMUP = 128, 1, 4, 0.4
OURS, TORCH, NATIVE, ART = "jarn_tf", "PyTorch", "PyTorch, its own network", "ART"


def main() -> None:
    parser = argparse.ArgumentParser(description="AutoAttack against its peers.")
    parser.add_argument("classifiers", nargs="*", help="Keras files; else three are trained")
    parser.add_argument("--norm", choices=EPSILON, default="linf")
    parser.add_argument("--without-art", action="store_true", help="minutes instead of many")
    parser.add_argument("--speed-only", action="store_true", help="part 2 alone")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more of them wait in loops on the cores that TensorFlow needs
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    peers = "torch", "pyautoattack", "adversarial-robustness-toolbox"
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in peers), flush=True)
    mnist = data.load("mnist")
    images, labels = mnist.test.floats[:AGREEMENT_IMAGES], mnist.test.labels[:AGREEMENT_IMAGES]
    classifiers = {path: keras.models.load_model(path) for path in options.classifiers}
    few = slice(SPEED_IMAGES)
    with_art = not options.without_art and options.norm == "linf"
    for name, classifier in (classifiers or trained_three(mnist.train)).items():
        print(f"\n{name}")
        if not options.speed_only:
            compare_accuracy(classifier, images, labels, options.norm, with_art)
        compare_speed(classifier, images[few], labels[few], options.norm, with_art)


def trained_three(split: data.Split) -> dict[str, keras.Model]:
    """The paper's MNIST classifier, trained for a few epochs in three ways."""
    steps = ADVERSARIAL_EPOCHS * data.steps_per_epoch(split, TRAINING_BATCH)
    examples = attacks.AdversarialExamples(EPSILON["linf"], warmup_steps=int(WARMUP * steps))
    return {
        "Standard training": trained(split, EPOCHS, None),
        "Uniform noise": trained(split, EPOCHS, attacks.UniformNoise(EPSILON["linf"])),
        "Adversarial training": trained(split, ADVERSARIAL_EPOCHS, examples),
    }


def trained(split: data.Split, epochs: int, perturb: Callable | None) -> keras.Model:
    defense = Defense(networks.mnist_cnn(), perturb, SEED)
    defense.compile(keras.optimizers.Adam(1e-3))
    defense.fit(split.floats, split.labels, TRAINING_BATCH, epochs, verbose=0)
    return defense.classifier


def compare_accuracy(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, norm: str, with_art: bool
) -> None:
    """Part 1, on one classifier."""
    apgd, square = attacks.apgd, attacks.square
    rows = (
        ("APGD-CE", functools.partial(apgd, loss="cross_entropy"), "apgd-ce", apgd_of_art),
        ("APGD-T", functools.partial(apgd, loss="dlr", targets=9), "apgd-t", None),
        ("FAB-T", functools.partial(attacks.fab, targets=9), "fab-t", None),
        ("Square", functools.partial(square, queries=5000), "square", square_of_art),
        ("AutoAttack", attacks.autoattack, None, None),
    )
    what = f"Robust accuracy of {len(images)} images"
    print(f"\n{what:<66}{OURS:>10}{TORCH:>10}{ART:>10}")
    print(f"  {'no attack':<64}{accuracy(classifier, images, labels):>10.1%}")
    for name, attack, name_in_torch, of_art in rows:
        found = [
            our_attack(classifier, images, labels, attack, norm),
            torch_attack(classifier, images, labels, norm, name_in_torch),
        ]
        if with_art and of_art:
            found.append(art_attack(classifier, images, labels, of_art))
        cells = "".join(f"{accuracy(classifier, one, labels):>10.1%}" for one in found)
        print(f"  {name:<64}{cells}", flush=True)


def compare_speed(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, norm: str, with_art: bool
) -> None:
    """Part 2, on one classifier."""
    sides = {
        OURS: functools.partial(our_attack, attack=attacks.autoattack, norm=norm),
        TORCH: functools.partial(torch_attack, norm=norm),
        NATIVE: functools.partial(torch_attack, norm=norm, model=native(classifier)),
        ART: functools.partial(art_attack, attack=autoattack_of_art),
    }
    if not with_art:
        del sides[ART]
    taken = {}
    print(f"\nAutoAttack on {len(images)} images")
    for side, attack in sides.items():
        attack(classifier, images[:FIRST], labels[:FIRST])
        begin = time.perf_counter(), time.process_time()
        adversarial = attack(classifier, images, labels)
        end = time.perf_counter(), time.process_time()
        taken[side] = np.subtract(end, begin)[:, None]
        right, seconds = accuracy(classifier, adversarial, labels), taken[side][:, 0]
        print(f"  {side:<42}accuracy {right:.1%}, {seconds[timing.WALL]:.1f} s", flush=True)
    timing.print_head(f"Time of a peer / time of {OURS}")
    for peer, target in ((TORCH, ">= 1.5"), (NATIVE, ">= 1.2"), (ART, ">= 10")):
        if peer in taken:
            timing.print_row(peer, taken[peer], taken[OURS], target)


def accuracy(classifier: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    logits = classifier(tf.constant(images), training=False)
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def our_attack(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, attack: Callable, norm: str
) -> np.ndarray:
    return attack(classifier, images, labels, epsilon=EPSILON[norm], norm=norm, seed=SEED)


def torch_attack(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    norm: str,
    name: str | None = None,
    model: torch.nn.Module | None = None,
) -> np.ndarray:
    """Images from the authors' AutoAttack: all of "standard", or the attack of this name.

    On `model`, or on the classifier through the adapter.
    """
    options = {"eps": EPSILON[norm], "norm": {"linf": "Linf", "l2": "L2"}[norm], "seed": SEED}
    ensemble = pyautoattack.AutoAttack(model or adapter(classifier), **options)
    if not model:
        # The fork has lost the switch to models of TensorFlow, but not the attacks on them.
        ensemble.apgd.is_tf_model = ensemble.apgd_targeted.is_tf_model = True
        ensemble.fab = FABAttack_TF(ensemble.model, **options, targeted=True)
    if name:
        ensemble.attacks_to_run = [name]
    adversarial, _ = ensemble.run_standard_evaluation(
        to_torch(np.moveaxis(images, -1, 1)),
        torch.tensor(labels, dtype=torch.int64),
        batch_size=len(images),
    )
    return np.moveaxis(adversarial.numpy(), 1, -1)


@functools.cache
def adapter(classifier: keras.Model) -> Adapter:
    return Adapter(classifier)


class Adapter:
    """A classifier as the authors' code calls models of TensorFlow: PyTorch tensors in and out."""

    def __init__(self, classifier: keras.Model):
        images = tf.TensorSpec([None, *classifier.input_shape[1:]])
        classes = tf.TensorSpec([None], tf.int32)

        def with_gradient(loss, images, *classes):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                logits = classifier(images, training=False)
                values = loss(logits, *classes)
            return logits, values, tape.gradient(values, images)

        def compiled(function, *signature):
            return tf.function(function, input_signature=signature, autograph=False)

        self._logits = compiled(functools.partial(classifier, training=False), images)
        self._cross_entropy, self._targeted_dlr, self._lead = (
            compiled(functools.partial(with_gradient, loss), images, *[classes] * number)
            for loss, number in ((_cross_entropy, 1), (_targeted_dlr, 2), (_lead, 2))
        )

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return to_torch(self._logits(_images_to_tf(images)))

    predict = __call__

    def get_logits_loss_grad_xent(self, images, labels):
        return self._run(self._cross_entropy, images, labels)

    def get_logits_loss_grad_target(self, images, labels, targets):
        return self._run(self._targeted_dlr, images, labels, targets)

    def get_grad_diff_logits_target(self, images, labels, targets):
        return self._run(self._lead, images, labels, targets)[1:]

    @staticmethod
    def _run(function, images, *classes):
        classes = [tf.constant(one.numpy(), tf.int32) for one in classes]
        logits, values, gradient = function(_images_to_tf(images), *classes)
        return to_torch(logits), to_torch(values), to_torch(gradient).permute(0, 3, 1, 2)


def native(classifier: keras.Model) -> torch.nn.Module:
    """The network in PyTorch, checked: the layers of `networks.mnist_cnn`, one after another."""
    model = Native(classifier)
    images = np.random.default_rng(SEED).random((FIRST, *classifier.input_shape[1:]), np.float32)
    theirs = model(to_torch(np.moveaxis(images, -1, 1))).detach().numpy()
    np.testing.assert_allclose(theirs, classifier(images, training=False), rtol=0, atol=1e-5)
    return model


class Native(torch.nn.Module):
    """Images [batch, channels, height, width] to logits; like Keras it holds channels last."""

    def __init__(self, classifier: keras.Model):
        super().__init__()
        self._functions = [_in_torch(layer) for layer in classifier.layers[1:]]

    def forward(self, images):
        x = images.permute(0, 2, 3, 1)
        for function in self._functions:
            x = function(x)
        return x


def _in_torch(layer: keras.Layer) -> Callable[[torch.Tensor], torch.Tensor]:
    functional = torch.nn.functional
    match layer:
        case keras.layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            return lambda x: functional.pad(x, (0, 0, left, right, top, bottom))
        case keras.layers.Reshape():
            return lambda x: x.reshape(-1, *layer.target_shape)
        case keras.layers.Permute():
            return lambda x: x.permute(0, *layer.dims)
        case keras.layers.Flatten():
            return lambda x: x.flatten(1)
        case keras.layers.Dense():
            kernel, bias = map(to_torch, layer.get_weights())
            kernel = kernel.T.contiguous()
            return lambda x: functional.linear(x, kernel, bias)
        case keras.layers.Activation() if layer.get_config()["activation"] == "relu":
            return functional.relu
    sys.exit(f"The PyTorch network has no {type(layer).__name__}; give a file of mnist_cnn.")


def _images_to_tf(images):
    return tf.constant(images.detach().permute(0, 2, 3, 1).numpy())


def to_torch(array: np.ndarray | tf.Tensor) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(array))  # a copy: the attacks write into it


# Not those of `jarn_tf.losses`: a mistake there has to show.
def _cross_entropy(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _lead(logits, labels, targets):
    return tf.gather(logits, targets, batch_dims=1) - tf.gather(logits, labels, batch_dims=1)


def _targeted_dlr(logits, labels, targets):
    rising = tf.sort(logits, axis=-1)
    spread = rising[:, -1] - (rising[:, -3] + rising[:, -4]) / 2
    return _lead(logits, labels, targets) / (spread + 1e-12)


def art_attack(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, attack: Callable
) -> np.ndarray:
    """Images from an attack of ART, given as a function of its estimator."""
    np.random.seed(SEED)
    one_hot = np.eye(classifier.output_shape[-1], dtype=np.float32)[labels]
    return attack(art_classifier(classifier)).generate(images, one_hot)


def apgd_of_art(estimator: TensorFlowV2Classifier) -> art.AutoProjectedGradientDescent:
    return art.AutoProjectedGradientDescent(
        estimator,
        eps=EPSILON["linf"],
        eps_step=2 * EPSILON["linf"],
        nb_random_init=1,
        batch_size=AGREEMENT_IMAGES,
        loss_type="cross_entropy",
        verbose=False,
    )


def square_of_art(estimator: TensorFlowV2Classifier) -> art.SquareAttack:
    return art.SquareAttack(
        estimator, eps=EPSILON["linf"], max_iter=5000, batch_size=AGREEMENT_IMAGES, verbose=False
    )


def autoattack_of_art(estimator: TensorFlowV2Classifier) -> art.AutoAttack:
    ensemble = art.AutoAttack(estimator, eps=EPSILON["linf"], batch_size=SPEED_IMAGES)
    for attack in ensemble.attacks:
        attack.verbose = False
    return ensemble


def art_classifier(classifier: keras.Model) -> TensorFlowV2Classifier:
    if not hasattr(tf.keras.losses, "Reduction"):  # gone since Keras 3; APGD still asks for it
        tf.keras.losses.Reduction = types.SimpleNamespace(NONE="none")
    shape = classifier.input_shape[1:]
    logits = tf.function(
        functools.partial(classifier, training=False),
        input_signature=[tf.TensorSpec([None, *shape])],
        autograph=False,
    )
    return TensorFlowV2Classifier(
        lambda images, training=False: logits(tf.cast(images, tf.float32)),
        nb_classes=classifier.output_shape[-1],
        input_shape=shape,
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )


if __name__ == "__main__":
    main()
