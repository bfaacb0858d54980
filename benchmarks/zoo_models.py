"""Thirty small classifiers of digits, half of which mask their gradients, each with who knows it.

Written without a look at the verdict's code. Each builder returns the classifier and the attacks
that know how it was built: a twin of the same weights whose gradient is useful, a mean over random
draws, random search, a closed form. `verdict_zoo` counts what they leave beside PGD; that gap, and
no verdict, makes a classifier "masked".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import TRADES, Defense, InputGradientPenalty, attacks, data

SHAPE, CLASSES = (28, 28, 1), 10
MASKED, HONEST = "masked", "not masked"
#: A function of (images, labels, epsilon) to adversarial images.
Attack = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


class Built(NamedTuple):
    """A classifier, and the attacks that know it."""

    model: keras.Model
    knowing: list[Attack]


class Member(NamedTuple):
    """What the table says of a classifier before it is judged."""

    build: Callable[[], Built]
    truth: str
    why: str
    epsilon: float
    relabel: Callable[[np.ndarray], np.ndarray]


#: Name to classifier, in the order of the table.
ZOO: dict[str, Member] = {}


def member(truth, why, epsilon=0.15, relabel=np.asarray):
    """Enters a builder into the zoo; 0.15 breaks the plain network, robust ones get less."""

    def enter(build):
        ZOO[build.__name__] = Member(build, truth, why, epsilon, relabel)
        return build

    return enter


# What builders share


@functools.cache
def digits():
    return data.load("digits")


def network(channels=1, activation="relu", classes=CLASSES, seed=0):
    """Two convolutions and a dense layer."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((*SHAPE[:2], channels)),
            keras.layers.Conv2D(16, 4, strides=2, activation=activation),
            keras.layers.Conv2D(32, 4, strides=2, activation=activation),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ]
    )


def chain(*steps):
    """Functions and layers one after the other, from images to logits."""
    layers = [s if isinstance(s, keras.Layer) else keras.layers.Lambda(s) for s in steps]
    return keras.Sequential([keras.Input(SHAPE), *layers])


def trained(model, perturb=None, epochs=12, rate=2e-3, defense=Defense, labels=None, **options):
    """The model, trained on the digits, or on the labels given."""
    keras.utils.set_random_seed(0)
    trainer = defense(model, perturb=perturb, **options)
    trainer.compile(keras.optimizers.Adam(rate))
    train = digits().train
    labels = train.labels if labels is None else labels
    trainer.fit(train.floats[: len(labels)], labels, 64, epochs, verbose=0)
    return model


@functools.cache
def standard():
    return trained(network())


@functools.cache
def robust():
    return trained(network(), attacks.AdversarialExamples(0.2, 3, warmup_steps=200), epochs=25)


def straight_through(hard, soft=tf.identity):
    """The values of `hard` with the gradient of `soft`."""
    return lambda inputs: soft(inputs) + tf.stop_gradient(hard(inputs) - soft(inputs))


def roughness(images):
    """Mean distance [n, 1] to the mean of neighbours: at most 0.02 for clean digits."""
    return tf.reduce_mean(tf.abs(images - tf.nn.avg_pool2d(images, 3, 1, "SAME")), [1, 2])


# Attacks that know


def climb(twin, steps=100, random_start=True):
    """PGD of both losses on another model, for its images of the highest loss."""

    def attack(loss, images, labels, epsilon):
        options = {"steps": steps, "loss": loss, "random_start": random_start}
        return attacks.pgd(twin, images, labels, epsilon=epsilon, **options)

    return [functools.partial(attack, loss) for loss in ("cross_entropy", "margin")]


def over_draws(model, draws=16):
    """PGD through the mean of so many random draws."""
    images = keras.Input(SHAPE)
    mean = keras.layers.Average()([model(images) for _ in range(draws)])
    return climb(keras.Model(images, mean), steps=60)


def search(model):
    """Random search, which needs no gradient."""
    return [lambda images, labels, epsilon: attacks.square(model, images, labels, epsilon=epsilon)]


def exact(dense):
    """The worst point in the box for each wrong class of a linear classifier, in closed form."""

    def attack(target, images, labels, epsilon):
        weights = dense.get_weights()[0]
        moves = np.sign(weights[:, [target]].T - weights[:, labels].T).reshape(images.shape)
        lower, upper = attacks.linf_bounds(tf.constant(images), epsilon)
        return np.clip(images + 2 * moves, lower, upper)  # to a corner; then into the box

    return [functools.partial(attack, target) for target in range(CLASSES)]


# Masked


def behind(hard, soft=tf.identity, channels=1):
    """A network trained behind `hard`; who knows takes the gradient of `soft` instead."""
    body = network(channels)
    model = trained(chain(hard, body))
    return Built(model, climb(chain(straight_through(hard, soft), body)))


@member(MASKED, "pixels become bits by comparison: no gradient")
def thermometer():
    levels = tf.range(1.0, 10.0) / 10
    return behind(
        lambda images: tf.cast(images > levels, tf.float32),
        lambda images: tf.sigmoid(20 * (images - levels)),
        channels=9,
    )


@member(MASKED, "pixels become one of 8 levels: no gradient")
def one_hot_pixels():
    levels = tf.range(8.0) / 7
    return behind(
        lambda images: tf.one_hot(tf.cast(tf.round(images[..., 0] * 7), tf.int32), 8),
        lambda images: tf.nn.softmax(-100 * (images - levels) ** 2),
        channels=8,
    )


@member(MASKED, "rounds to 6 levels with a gradient of zeros")
def zero_gradient():
    @tf.custom_gradient
    def rounded(images):
        return tf.round(images * 5) / 5, tf.zeros_like

    return behind(rounded)


@member(MASKED, "adds a fast sine, whose slope of 50 hides the network's")
def sine():
    return behind(lambda images: images + 0.05 * tf.sin(1000 * images))


@member(MASKED, "rounds the cosines of 4x4 blocks, as JPEG")
def block_transform():
    k = np.arange(4)
    cosines = np.cos(np.pi * (k[None] + 0.5) * k[:, None] / 4) * np.where(k, 0.5**0.5, 0.5)[:, None]
    basis = np.einsum("ux,vy->xyuv", cosines, cosines).reshape(4, 4, 1, 16).astype("float32")

    def compressed(images):
        rounded = tf.round(tf.nn.conv2d(images, basis, 4, "VALID") / 0.5) * 0.5
        return tf.nn.conv2d_transpose(rounded, basis, tf.shape(images), 4, "VALID")

    return behind(compressed)


@member(MASKED, "3 % of units win: the gradient jumps everywhere", 0.1)
def k_winners():
    def winners(share):
        def keep(inputs):
            least = tf.math.top_k(inputs, int(share * inputs.shape[-1])).values[..., -1:]
            return tf.where(inputs >= least, inputs, 0.0)

        return keep

    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    flat = keras.layers.Flatten()
    model = trained(chain(flat, dense(600), winners(0.03), dense(400), winners(0.03), dense(10)))
    noisy = chain(lambda images: images + tf.random.normal(tf.shape(images), stddev=0.1), model)
    return Built(model, over_draws(noisy, 32) + search(model) + climb(standard()))


@member(MASKED, "distilled at temperature 100: saturated logits")
def distilled():
    def hot():
        return chain(network(), keras.layers.Rescaling(1 / 100))

    teacher = trained(hot(), epochs=40, rate=1e-2)
    soft = tf.nn.softmax(teacher.predict(digits().train.floats, verbose=0)).numpy()
    student = trained(hot(), epochs=40, rate=1e-2, labels=soft).layers[0]
    return Built(student, climb(chain(student, keras.layers.Rescaling(1 / 100))))


@member(MASKED, "drops 60 % of the pixels in inference too")
def dropout():
    drop = functools.partial(tf.nn.dropout, rate=0.6)
    perturb = attacks.AdversarialExamples(0.2, 2, warmup_steps=200)
    model = trained(chain(drop, network()), perturb, epochs=25)
    return Built(model, over_draws(model))


@member(MASKED, "moves the image by up to 6 pixels at random")
def random_shift():
    def shifted(images):
        padded = tf.pad(images, [[0, 0], [6, 6], [6, 6], [0, 0]])
        number = tf.shape(images)[0]
        corners = tf.cast(tf.random.uniform([number, 2], 0, 13, tf.int32), tf.float32) / 39
        boxes = tf.concat([corners, corners + 27 / 39], -1)
        return tf.image.crop_and_resize(padded, boxes, tf.range(number), SHAPE[:2])

    perturb = attacks.AdversarialExamples(0.15, 2, warmup_steps=200)
    model = trained(chain(shifted, network()), perturb, epochs=25)
    return Built(model, over_draws(model))


@member(MASKED, "seven networks vote: counts have no gradient")
def voting():
    networks = [trained(network(seed=seed), epochs=8) for seed in range(7)]
    images = keras.Input(SHAPE)
    logits = [one(images) for one in networks]
    vote = keras.layers.Lambda(lambda one: tf.one_hot(tf.argmax(one, -1), CLASSES))
    votes = keras.Model(images, keras.layers.Add()([vote(one) for one in logits]))
    return Built(votes, climb(keras.Model(images, keras.layers.Average()(logits))))


def _prototypes(count=300):
    """Negative squared distances [n, count] to training images, and their classes one-hot."""
    train = digits().train
    rows = train.floats[:count].reshape(count, -1)
    hot = tf.one_hot(train.labels[:count], CLASSES)

    def nearness(images):
        flat = tf.reshape(images, [-1, rows.shape[1]])
        cross = 2 * flat @ rows.T - tf.reduce_sum(flat**2, -1, keepdims=True)
        return cross - (rows**2).sum(-1)

    return nearness, hot


def _nearest():
    """The class of the nearest prototype, one-hot; and a soft form of it."""
    nearness, hot = _prototypes()
    hard = lambda images: 5 * tf.gather(hot, tf.argmax(nearness(images), -1))  # noqa: E731
    soft = lambda images: tf.math.log(tf.nn.softmax(nearness(images)) @ hot + 1e-20)  # noqa: E731
    return hard, soft


@member(MASKED, "300 constant experts, the nearest one answers")
def hard_mixture():
    hard, soft = _nearest()
    return Built(chain(hard), climb(chain(soft)) + search(chain(hard)))


@member(MASKED, "a lookup without gradient answers for rough images")
def fallback():
    hard, soft = _nearest()
    body = standard()

    def choice(both):
        return tf.where(roughness(both[0]) > 0.025, hard(both[0]), both[1])

    images = keras.Input(SHAPE)
    model = keras.Model(images, keras.layers.Lambda(choice)([images, body(images)]))
    return Built(model, climb(body, random_start=False) + climb(chain(soft)) + search(model))


@member(MASKED, "probabilities, rescaled, passed for logits")
def probabilities():
    body = standard()
    model = chain(body, lambda logits: 2 * tf.nn.softmax(30 * logits) - 1)
    return Built(model, climb(body))


@member(MASKED, "log of a float16 softmax: small ones are 0, gradient NaN")
def float16():
    def log_of_half(logits):
        half = tf.nn.softmax(tf.cast(4 * logits, tf.float16))
        return tf.math.log(tf.cast(half, tf.float32) + 1e-8)

    return Built(chain(standard(), log_of_half), climb(standard()))


@member(MASKED, "the gradient is stopped, an unrelated map's put in its place")
def decoy():
    body = standard()
    keras.utils.set_random_seed(1)
    images = keras.Input(SHAPE)
    elsewhere = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(images))
    pretend = keras.layers.Lambda(lambda two: tf.stop_gradient(two[0] - two[1]) + two[1])
    return Built(keras.Model(images, pretend([body(images), elsewhere])), climb(body))


@member(MASKED, "robust, times 1e-4: the cross-entropy climbs all wrong classes alike")
def tiny_logits():
    model = chain(robust(), keras.layers.Rescaling(1e-4))
    return Built(model, climb(robust()))


# Not masked


def halves(labels):
    return labels // 5


def honest(model):
    """A model with nothing to know of it: AutoAttack, and PGD of many steps on both losses."""
    auto = functools.partial(_autoattack, model)
    return Built(model, [auto, *climb(model)])


def _autoattack(model, images, labels, epsilon):
    return attacks.autoattack(model, images, labels, epsilon=epsilon)


@member(HONEST, "plain network that saw 25 images")
def low_accuracy():
    return honest(trained(network(), epochs=15, labels=digits().train.labels[:25]))


@member(HONEST, "larger, yet no probability underflows")
def logits_times_3():
    return honest(chain(standard(), keras.layers.Rescaling(3.0)))


@member(HONEST, "two classes, times 1e-4: one wrong class, so no sign changes", relabel=halves)
def tiny_two_classes():
    model = trained(network(classes=2), labels=halves(digits().train.labels))
    return honest(chain(model, keras.layers.Rescaling(1e-4)))


@member(HONEST, "plain network: hardly any image can fall", epsilon=0.005)
def tiny_radius():
    return honest(standard())


@member(HONEST, "plain network: every image falls at once", epsilon=0.5)
def huge_radius():
    return honest(standard())


@member(HONEST, "robust by adversarial training at 0.2", epsilon=0.1)
def pgd_trained():
    return honest(robust())


@member(HONEST, "adversarial training by single steps, small enough to work", epsilon=0.05)
def fgsm_trained():
    return honest(trained(network(), attacks.AdversarialExamples(0.05, steps=1), epochs=20))


@member(HONEST, "robust by TRADES", epsilon=0.1)
def trades():
    perturb = attacks.AdversarialExamples(0.1, 5, targets="predictions")
    options = {"defense": TRADES, "penalty_weight": 6.0}
    return honest(trained(network(), perturb, epochs=20, **options))


@member(HONEST, "a smooth loss by double backpropagation")
def gradient_penalty():
    options = {"defense": InputGradientPenalty, "penalty_weight": 1.0}
    return honest(trained(network(activation="softplus"), epochs=20, **options))


@member(HONEST, "linear: one gradient everywhere, its worst case known exactly", epsilon=0.05)
def linear():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(CLASSES)
    return Built(trained(chain(keras.layers.Flatten(), dense), epochs=20), exact(dense))


@member(HONEST, "tanh: differentiable everywhere and not saturated")
def smooth():
    return honest(trained(network(activation="tanh")))


@member(HONEST, "the mean of five networks is one network")
def averaged():
    networks = [trained(network(seed=seed), epochs=8) for seed in range(5)]
    images = keras.Input(SHAPE)
    mean = keras.layers.Average()([one(images) for one in networks])
    return honest(keras.Model(images, mean))


@member(HONEST, "a blur is linear, its gradient exact")
def blurred():
    return honest(trained(chain(lambda images: tf.nn.avg_pool2d(images, 5, 1, "SAME"), network())))


@member(HONEST, "an eleventh class for rough images, which is an error like others")
def refusing():
    images = keras.Input(SHAPE)
    refusal = keras.layers.Lambda(lambda images: 1000 * (roughness(images) - 0.025) + 5)
    logits = keras.layers.Concatenate()([standard()(images), refusal(images)])
    return honest(keras.Model(images, logits))
