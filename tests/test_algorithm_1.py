"""The gradients of one step, beside Algorithm 1 as the paper writes it."""

import itertools

import jarns
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

L2 = keras.regularizers.L2


def shown(images, kind):
    """What the discriminator takes for real, by NumPy."""
    if kind == "centred":
        images = 2 * images - 1
    elif kind == "grey":
        images = np.repeat(images.mean(axis=-1, keepdims=True), images.shape[-1], axis=-1)
    elif kind == "blurred":
        ones = np.ones(images.shape[1:3])
        padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
        counts = np.pad(ones, 2)
        windows, inside = (
            np.lib.stride_tricks.sliding_window_view(a, (5, 5), axis=axes).sum((-2, -1))
            for a, axes in ((padded, (1, 2)), (counts, (0, 1)))
        )
        images = windows / inside[..., None]
    return tf.constant(images, tf.float32)


def algorithm_1(model, images, labels, options):
    """Gradients of lines 9 to 11 as the paper writes them: each of one whole loss."""
    x = 0.1 + 0.7 * tf.constant(images)  # line 4, `darker`
    y = tf.one_hot(labels, toys.CLASSES)

    def scale(v):
        if not options["standardize"]:
            return v
        mean = tf.reduce_mean(v, axis=[1, 2, 3], keepdims=True)
        norm = tf.sqrt(tf.reduce_sum((v - mean) ** 2, axis=[1, 2, 3], keepdims=True))
        return (v - mean) / norm

    with tf.GradientTape(persistent=True) as tape:
        with tf.GradientTape() as inner:
            inner.watch(x)
            probabilities = tf.nn.softmax(logits := model.classifier(x, training=True))
            each_loss = -tf.reduce_sum(y * tf.math.log(probabilities), axis=1)
            of = {
                "loss": each_loss,
                "softmax": tf.reduce_sum(y * probabilities, axis=1),
                "logit": tf.reduce_sum(y * logits, axis=1),
                "margin": tf.reduce_sum(y * logits, axis=1)
                - tf.reduce_max(logits - 1e9 * y, axis=1),
            }[options["jacobian_of"]]
        jacobian = inner.gradient(of, x)  # line 6
        adapted = model.adaptor(scale(jacobian), training=True)  # line 7
        real = x if options["real_images"] == "perturbed" else shown(images, options["real_images"])
        # One batch of both, so that batch normalisation sees both.
        both = tf.concat([scale(real), scale(adapted)], axis=0)
        f_disc = tf.sigmoid(model.discriminator(both, training=True))[:, 0]
        d_real, d_adapted = f_disc[: len(images)], f_disc[len(images) :]
        l_cls = tf.reduce_mean(each_loss)  # line 5
        l_adv = tf.reduce_mean(tf.math.log(d_real) + tf.math.log(1 - d_adapted))  # line 8
        if options["gan_loss"] == "minimax":
            fooling = l_adv
        else:
            fooling = tf.reduce_mean(-tf.math.log(d_adapted))
        lazy = options.get("regularization_interval", 1)
        norm = tf.reduce_mean(tf.norm(tf.reshape(jacobian, [len(images), -1]), axis=1) ** 2)
        l_cls += lazy * options.get("jacobian_penalty", 0.0) * norm
        total = l_cls + lazy * options["adversarial_weight"] * fooling
        with tf.GradientTape() as inner:
            inner.watch(real)
            logit = tf.reduce_sum(model.discriminator(real, training=True))
        r1 = tf.reduce_sum(inner.gradient(logit, real) ** 2) / len(images)
        l_adv -= options.get("discriminator_penalty", 0.0) * r1
    return (
        tape.gradient(total, model.classifier.trainable_variables),  # descends
        tape.gradient(fooling, model.adaptor.trainable_variables),  # descends
        [-g for g in tape.gradient(l_adv, model.discriminator.trainable_variables)],  # ascends
    )


CHOICES = {
    "jacobian_of": ("loss", "softmax", "logit"),
    "standardize": (False, True),
    "gan_loss": ("minimax", "non_saturating"),
    "real_images": ("perturbed", "clean"),
    "batch_norm": (False, True),
}
#: Half of all: every choice of any four options is among them.
COMBINATIONS = [
    {name: values[i] for (name, values), i in zip(CHOICES.items(), indices)}
    for indices in itertools.product(*(range(len(values)) for values in CHOICES.values()))
    if sum(indices) % 2 == 0
]


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_one_step_is_algorithm_1(options):
    options = options | {"adversarial_weight": 3.0}
    check_one_step(options, options.pop("batch_norm"))


def check_one_step(options, batch_norm):
    """With SGD of rate 1 the three updates are the gradients."""

    def build():
        return jarns.make(
            rate=1.0,
            discriminator=toys.discriminator(batch_norm=batch_norm),
            perturb=jarns.darker,
            **options,
        )

    images, labels = toys.batch(6)
    expected = algorithm_1(build(), images, labels, options)
    model = build()
    networks = (model.classifier, model.adaptor, model.discriminator)
    before = [toys.arrays(n.trainable_variables) for n in networks]
    jarns.fit(model, images, labels)
    for network, start, gradients in zip(networks, before, expected):
        for v0, v1, g in zip(start, toys.arrays(network.trainable_variables), gradients):
            np.testing.assert_allclose(v0 - v1, g, rtol=1e-3, atol=2e-6, err_msg=network.name)
        assert max(np.abs(g).max() for g in gradients) > 1e-4  # far above the tolerance


OURS = [
    {"jacobian_of": "margin"},
    {"real_images": "centred"},
    {"real_images": "blurred"},
    {"real_images": "grey"},
    {"jacobian_penalty": 0.5},
    {"discriminator_penalty": 2.0},
    {"regularization_interval": 3, "jacobian_penalty": 0.5},
]


@pytest.mark.parametrize("options", OURS, ids=lambda o: "-".join(map(str, o.values())))
def test_one_step_with_an_option_that_the_paper_does_not_have(options):
    paper = {
        "adversarial_weight": 3.0,
        "jacobian_of": "loss",
        "standardize": False,
        "gan_loss": "minimax",
        "real_images": "perturbed",
    }
    check_one_step(paper | options, batch_norm=False)


def test_discriminator_sees_noise_that_differs_between_real_and_adapted_images():
    """The discriminator keeps what it is shown; the noise is what noiseless steps lack of it."""

    def seen(radius):
        images, labels = toys.batch(64)
        shown_to = []
        model = jarns.make(discriminator_noise=radius, seed=1)
        discriminate = model.discriminator.call
        model.discriminator.call = lambda x, *a, **k: shown_to.append(x) or discriminate(x, *a, **k)
        jarns.fit(model, images, labels, batch_size=64)
        return [x.numpy() for x in shown_to]

    adapted, real = (noisy - plain for noisy, plain in zip(seen(0.5), seen(0.0)))
    for noise in (adapted, real):
        assert 0.45 < np.abs(noise).max() <= 0.5 + 1e-6
        assert abs(noise.mean()) < 0.02
    assert abs(np.corrcoef(adapted.ravel(), real.ravel())[0, 1]) < 0.1


def test_regularization_interval_leaves_plain_steps_between():
    model = jarns.make(start_step=3, regularization_interval=2, discriminator_interval=2)
    plain, resting, learning = (
        model.CLASSIFIER, model.ADVERSARIAL, model.ADVERSARIAL_AND_DISCRIMINATOR,
    )  # fmt: skip
    found = [model.kind_of_step(step) for step in range(3, 11)]
    assert found == [learning, plain, resting, plain, learning, plain, resting, plain]
    assert model.kind_of_step(2) == plain


def test_an_epoch_that_ends_on_a_plain_step_has_the_metrics_of_the_others():
    images, labels = toys.batch(40)  # five steps: terms on the first and the fourth
    model = jarns.make(regularization_interval=3, discriminator_interval=1)
    history = jarns.fit(model, images, labels, epochs=2).history
    for metric in model.regularizer_metrics:
        assert len(history[metric.name]) == 2
        assert np.isfinite(history[metric.name]).all()


def test_adversarial_weight_0_trains_the_classifier_as_without_jarn():
    images, labels = toys.batch(20)
    model, start_later = jarns.make(adversarial_weight=0.0), jarns.make(start_step=100)
    for m in (model, start_later):
        jarns.fit(m, images, labels)
    for a, b in zip(
        toys.arrays(model.classifier.weights), toys.arrays(start_later.classifier.weights)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sample_weights_weigh_the_classification_loss_alone():
    """Weights of 0 leave what the weight of L_adv gives; SGD's steps add up."""
    images, labels = toys.batch(8)
    start = toys.arrays(toys.classifier().weights)

    def step(weights, **options):
        model = jarns.make(**options)
        jarns.fit(model, images, labels, np.float32(weights))
        after = toys.arrays(model.classifier.weights)
        return np.concatenate([(b - a).ravel() for a, b in zip(start, after)])

    both, adversarial = step(np.ones(8)), step(np.zeros(8))
    classification = step(np.ones(8), adversarial_weight=0.0)
    assert np.abs(adversarial).max() > 1e-4
    np.testing.assert_allclose(both, adversarial + classification, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("network", ["adaptor", "discriminator"])
def test_penalties_of_adaptor_and_discriminator_are_in_their_gradients(network):
    images, labels = toys.batch(8)
    decayed_network = getattr(toys, network)(kernel_regularizer=L2(0.1))
    plain, decayed = jarns.make(), jarns.make(**{network: decayed_network})
    kernel = np.array(decayed_network.weights[0])
    for model in (plain, decayed):
        jarns.fit(model, images, labels)
    after = [np.array(getattr(m, network).weights[0]) for m in (decayed, plain)]
    np.testing.assert_allclose(after[0] - after[1], -0.5 * 2 * 0.1 * kernel, atol=1e-6)
