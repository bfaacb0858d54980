"""What the masking verdict is judged from: attacks and probes of one classifier, image by image."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import attacks
from jarn_tf.attacks.autoattack import unchanged
from jarn_tf.batches import slices
from jarn_tf.evaluation.masking.substitute import distilled_substitute
from jarn_tf.inference import logits_of_all
from jarn_tf.jacobian import input_jacobian
from jarn_tf.resume import Part, Parts

_QUERIES = 1000
_REPETITIONS = 5
_RANDOM_IMAGES = 100  # AutoAttack for them takes 4,000 passes an image
#: Difference of logits, in units of the largest one, from which on a classifier answers at random.
DIFFERENT = 1e-2
_LEAD = 5.0  # median lead of the rescaled logits

#: Names of the attacks in `Measurements.withstands`.
NOISE = "uniform noise"
FGSM = "FGSM"
FEW_STEPS = "PGD-10"
PGD = "PGD-40"
MANY_STEPS = "PGD-100, 3 restarts"
MARGIN = "PGD-40 margin"
RESCALED = "PGD-40, logits rescaled"
SQUARE = f"Square, {_QUERIES} queries"
TRANSFER = "transfer from a substitute"


@dataclasses.dataclass(frozen=True)
class Measurements:
    """One value an image, unless said otherwise.

    Attributes:
        clean: Whether it is classified right.
        withstands: (attack, radius) to whether it is classified right without and under the attack.
        epsilon: The radius that robustness is claimed for.
        gradient: Largest magnitude in the input gradient of the loss, at a random point.
        median_lead: Median distance of the largest logit to the second; one number. `RESCALED`
            divides the logits so that it becomes 5: enough for a loss that is about the right
            class, and far from saturation.
        repeated: Largest difference between the logits of the same input in several calls, over
            the largest logit.
        alone: The same between an image alone and in a batch.
        predicted: The class it is taken for.
        right_under_rand: Which of the first 100 images are classified right under AutoAttack's
            version for classifiers that answer at random; None where `repeated` is small.
        changed: Names of variables that change when the classifier answers in inference mode, such
            as moving averages and the states of random layers.
    """

    clean: np.ndarray
    withstands: dict[tuple[str, float], np.ndarray]
    epsilon: float
    gradient: np.ndarray
    median_lead: float
    repeated: np.ndarray
    alone: np.ndarray
    predicted: np.ndarray
    changed: list[str]
    right_under_rand: np.ndarray | None = None

    def accuracy(self, attack: str, radius: float | None = None) -> float:
        """Share of images that withstand an attack, at epsilon unless told."""
        return float(self.of(attack, radius).mean())

    def of(self, attack: str, radius: float | None = None) -> np.ndarray:
        """Which images withstand an attack, at epsilon unless told."""
        return self.withstands[attack, self.epsilon if radius is None else radius]

    def left(self) -> float:
        """Share of images that withstand every attack at epsilon."""
        items = self.withstands.items()
        at_epsilon = [right for (_, radius), right in items if radius == self.epsilon]
        return float(np.logical_and.reduce(at_epsilon).mean())

    def accuracies(self) -> dict[str, dict[float, float]]:
        """Name of an attack to radius to accuracy."""
        curves: dict[str, dict[float, float]] = {}
        for (attack, radius), right in sorted(self.withstands.items(), key=lambda item: item[0][1]):
            curve = curves.setdefault(attack, {0.0: float(self.clean.mean())})
            curve[radius] = float(right.mean())
        return curves


def radii(epsilon: float) -> list[float]:
    """The radii of the curves: quarters of epsilon, half of what remains to 1, and 1."""
    return sorted({epsilon / 4, epsilon / 2, 3 * epsilon / 4, epsilon, (epsilon + 1) / 2, 1.0})


def measure(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    seed: int,
    progress: bool,
    parts: Parts,
) -> Measurements:
    """Attacks and probes the classifier; arguments as in `masking_verdict`."""
    logits = logits_of_all(classifier, images)
    predicted = np.argmax(logits, axis=-1)
    clean = predicted == labels
    top = np.sort(logits, axis=-1)
    median_lead = float(np.median(top[:, -1] - top[:, -2]))
    scale = _LEAD / max(median_lead, 1e-6 * float(np.median(np.abs(logits))), 1e-30)
    runs = [
        (name, attack, radius)
        for name, attack in _at_every_radius(classifier).items()
        for radius in radii(epsilon)
    ]
    once = _at_epsilon(classifier, images, epsilon, seed, scale)
    runs += [(name, attack, epsilon) for name, attack in once.items()]
    of = classifier, images, labels
    kinds = {"right": (clean.shape, "bool")}
    jobs = [
        Part(_name(name, radius), kinds, functools.partial(_right, *of, attack, radius, seed))
        for name, attack, radius in runs
    ]
    withstands = {}
    for (name, _, radius), found in zip(
        tqdm.tqdm(runs, desc="verdict", leave=False, disable=None if progress else True),
        parts.each(jobs),
    ):
        withstands[name, radius] = clean & found["right"]
    repeated = _repeated(classifier, images, logits)
    right_under_rand = None
    if np.median(repeated) > DIFFERENT:
        few = images[:_RANDOM_IMAGES], labels[:_RANDOM_IMAGES]
        rand = functools.partial(_right_under_rand, classifier, *few, epsilon, seed)
        job = Part("verdict_rand", {"right": (few[1].shape, "bool")}, rand)
        right_under_rand = clean[: len(few[1])] & parts.part(job)["right"]
    return Measurements(
        clean,
        withstands,
        epsilon,
        _gradient_sizes(classifier, _noise(images, labels, epsilon, seed), labels),
        median_lead,
        repeated,
        _alone(classifier, images, logits),
        predicted,
        changed_by_inference(classifier, images),
        right_under_rand,
    )


def _name(name: str, radius: float) -> str:
    return re.sub(r"\W+", "_", f"verdict {name} {radius:.9g}")


#: From images, labels, radius and seed to adversarial images.
_Attack = Callable[[np.ndarray, np.ndarray, float, int], np.ndarray]


def _at_every_radius(classifier: keras.Model) -> dict[str, _Attack]:
    """The attacks that the curves over the radius are of."""
    return {
        NOISE: _noise,
        FGSM: lambda images, labels, radius, seed: attacks.fgsm(
            classifier, images, labels, epsilon=radius
        ),
        PGD: _pgd(classifier, 40),
        MARGIN: _pgd(classifier, 40, loss="margin"),
        SQUARE: lambda images, labels, radius, seed: attacks.square(
            classifier, images, labels, epsilon=radius, queries=_QUERIES, seed=seed
        ),
    }


def _at_epsilon(
    classifier: keras.Model, images: np.ndarray, epsilon: float, seed: int, scale: float
) -> dict[str, _Attack]:
    """The attacks at the claimed radius alone; `scale` is the factor of the rescaled logits."""
    rescaled = keras.Sequential(
        [keras.Input(images.shape[1:]), classifier, keras.layers.Rescaling(scale)]
    )

    @functools.cache
    def substitute():
        return distilled_substitute(classifier, images, epsilon, seed)

    return {
        FEW_STEPS: _pgd(classifier, 10),
        MANY_STEPS: _pgd(classifier, 100, restarts=3),
        RESCALED: _pgd(rescaled, 40),
        TRANSFER: lambda images, labels, radius, seed: attacks.pgd(
            substitute(), images, labels, epsilon=radius, steps=40, seed=seed
        ),
    }


def _noise(images: np.ndarray, labels: np.ndarray, radius: float, seed: int) -> np.ndarray:
    del labels
    drawn = tf.random.stateless_uniform(images.shape, [seed, 0], -radius, radius)
    return attacks.project_linf(images + drawn, attacks.linf_bounds(images, radius)).numpy()


def _pgd(
    classifier: keras.Model, steps: int, restarts: int = 1, loss: str = "cross_entropy"
) -> _Attack:
    return lambda images, labels, radius, seed: attacks.pgd(
        classifier, images, labels, epsilon=radius, steps=steps, restarts=restarts, loss=loss,
        seed=seed, stop_when_misclassified=True,
    )  # fmt: skip


def _right_under_rand(classifier, images, labels, epsilon, seed) -> dict[str, np.ndarray]:
    found = attacks.autoattack(
        classifier, images, labels, epsilon=epsilon, version="rand", seed=seed
    )
    return {"right": unchanged(found, images)}


def _right(classifier, images, labels, attack, radius, seed) -> dict[str, np.ndarray]:
    """Which images are classified right under an attack, [n] booleans."""
    right = np.empty(len(images), bool)
    for rows in slices(len(images)):
        adversarial = attack(images[rows], labels[rows], radius, seed + rows.start)
        right[rows] = np.argmax(logits_of_all(classifier, adversarial), axis=-1) == labels[rows]
    return {"right": right}


def _gradient_sizes(classifier, images, labels) -> np.ndarray:
    sizes = []
    for rows in slices(len(images)):
        jacobians = input_jacobian(classifier, images[rows], labels[rows]).numpy()
        sizes.append(np.abs(jacobians).max(axis=(1, 2, 3)))
    return np.concatenate(sizes)


def _repeated(classifier, images, logits) -> np.ndarray:
    again = [logits_of_all(classifier, images) for _ in range(_REPETITIONS)]
    return np.max([_difference(logits, other) for other in again], axis=0)


def _alone(classifier, images, logits) -> np.ndarray:
    """Of at most 32 images; each is a call of its own."""
    few = images[:32]
    alone = np.concatenate([logits_of_all(classifier, few[i : i + 1]) for i in range(len(few))])
    return _difference(logits[: len(few)], alone)


def _difference(logits, other) -> np.ndarray:
    """The largest difference of a logit that plays a part, over the largest or the median one."""
    sizes = np.abs(logits)
    scale = np.maximum(np.abs(logits.max(axis=-1)), np.median(sizes, axis=-1))
    scale = np.maximum(scale, np.finfo(np.float32).tiny)[:, None]
    differences = np.where(sizes < 1e4 * scale, np.abs(logits - other), 0)
    return (differences / scale).max(axis=-1)


def changed_by_inference(classifier: keras.Model, images: np.ndarray) -> list[str]:
    """Names of the variables that differ after the classifier has answered in inference mode."""
    trainable = {id(variable) for variable in classifier.trainable_variables}
    rest = [variable for variable in classifier.variables if id(variable) not in trainable]
    before = [np.array(variable) for variable in rest]
    logits_of_all(classifier, images)
    pairs = zip(rest, before)
    return sorted(v.path for v, old in pairs if not np.array_equal(np.array(v), old))
