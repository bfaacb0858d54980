import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import JARN, attacks

L2 = keras.regularizers.L2


def make(rate=0.5, eager=True, optimizer=keras.optimizers.SGD, **options):
    """Eager unless the test is about compiled steps: nothing is traced then, and that is quick."""
    model = JARN(
        options.pop("classifier", None) or toys.classifier(),
        options.pop("adaptor", None) or toys.adaptor(),
        options.pop("discriminator", None) or toys.discriminator(),
        **options,
    )
    model.compile(*(optimizer(rate) for _ in range(3)), run_eagerly=eager)
    return model


def fit(model, images, labels, weights=None, batch_size=8, epochs=1, callbacks=None):
    return model.fit(
        images,
        labels,
        batch_size,
        epochs,
        sample_weight=weights,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def darker(classifier, images, labels, batch):
    """A perturbation without randomness."""
    return 0.1 + 0.7 * images


# Gradients


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
        return make(
            rate=1.0,
            discriminator=toys.discriminator(batch_norm=batch_norm),
            perturb=darker,
            **options,
        )

    images, labels = toys.batch(6)
    expected = algorithm_1(build(), images, labels, options)
    model = build()
    networks = (model.classifier, model.adaptor, model.discriminator)
    before = [toys.arrays(n.trainable_variables) for n in networks]
    fit(model, images, labels)
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
        model = make(discriminator_noise=radius, seed=1)
        discriminate = model.discriminator.call
        model.discriminator.call = lambda x, *a, **k: shown_to.append(x) or discriminate(x, *a, **k)
        fit(model, images, labels, batch_size=64)
        return [x.numpy() for x in shown_to]

    adapted, real = (noisy - plain for noisy, plain in zip(seen(0.5), seen(0.0)))
    for noise in (adapted, real):
        assert 0.45 < np.abs(noise).max() <= 0.5 + 1e-6
        assert abs(noise.mean()) < 0.02
    assert abs(np.corrcoef(adapted.ravel(), real.ravel())[0, 1]) < 0.1


def test_regularization_interval_leaves_plain_steps_between():
    model = make(start_step=3, regularization_interval=2, discriminator_interval=2)
    plain, resting, learning = (
        model.CLASSIFIER, model.ADVERSARIAL, model.ADVERSARIAL_AND_DISCRIMINATOR,
    )  # fmt: skip
    found = [model.kind_of_step(step) for step in range(3, 11)]
    assert found == [learning, plain, resting, plain, learning, plain, resting, plain]
    assert model.kind_of_step(2) == plain


def test_an_epoch_that_ends_on_a_plain_step_has_the_metrics_of_the_others():
    images, labels = toys.batch(40)  # five steps: terms on the first and the fourth
    model = make(regularization_interval=3, discriminator_interval=1)
    history = fit(model, images, labels, epochs=2).history
    for metric in model.regularizer_metrics:
        assert len(history[metric.name]) == 2
        assert np.isfinite(history[metric.name]).all()


def test_adversarial_weight_0_trains_the_classifier_as_without_jarn():
    images, labels = toys.batch(20)
    model, start_later = make(adversarial_weight=0.0), make(start_step=100)
    for m in (model, start_later):
        fit(m, images, labels)
    for a, b in zip(
        toys.arrays(model.classifier.weights), toys.arrays(start_later.classifier.weights)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sample_weights_weigh_the_classification_loss_alone():
    """Weights of 0 leave what the weight of L_adv gives; SGD's steps add up."""
    images, labels = toys.batch(8)
    start = toys.arrays(toys.classifier().weights)

    def step(weights, **options):
        model = make(**options)
        fit(model, images, labels, np.float32(weights))
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
    plain, decayed = make(), make(**{network: decayed_network})
    kernel = np.array(decayed_network.weights[0])
    for model in (plain, decayed):
        fit(model, images, labels)
    after = [np.array(getattr(m, network).weights[0]) for m in (decayed, plain)]
    np.testing.assert_allclose(after[0] - after[1], -0.5 * 2 * 0.1 * kernel, atol=1e-6)


# When which network moves


class Recorder(keras.callbacks.Callback):
    """What moved at each step."""

    def on_train_begin(self, logs=None):
        self.before = toys.state(self.model)
        self.moved = []

    def on_train_batch_end(self, batch, logs=None):
        after = toys.state(self.model)
        self.moved.append({k.split("/")[0] for k in toys.moved(self.before, after)})
        self.before = after


@pytest.mark.parametrize("batch_norm", [False, True])
def test_discriminator_moves_at_steps_0_k_2k_of_its_phase_and_not_between(batch_norm):
    """Nor do its optimizer's moments and iterations, nor its moving averages."""
    model = make(
        optimizer=keras.optimizers.Adam,
        eager=batch_norm,  # one of the two compiled
        discriminator=toys.discriminator(batch_norm=batch_norm),
        start_step=2,
        discriminator_interval=3,
    )
    recorder = Recorder()
    images, labels = toys.batch(20)  # 3 steps an epoch
    fit(model, images, labels, epochs=3, callbacks=[recorder])
    classifier = {"classifier", "classifier_optimizer"}
    adaptor = {"adaptor", "adaptor_optimizer"}
    discriminator = {"discriminator", "discriminator_optimizer"}
    expected = [
        classifier
        | (adaptor if step >= 2 else set())
        | (discriminator if step in (2, 5, 8) else set())
        for step in range(9)
    ]
    assert recorder.moved == expected
    iterations = [int(getattr(model, o).iterations) for o in JARN.OPTIMIZERS]
    assert iterations == [9, 7, 3]


def test_moving_averages_of_the_discriminator_are_those_of_one_pass_over_both(rng):
    images, labels = toys.batch(8)
    model = make(discriminator=toys.discriminator(batch_norm=True))
    shown = []
    first = model.discriminator.layers[0]
    seen_by_norm = keras.Model(model.discriminator.inputs, first.output)
    original = model.discriminator.call

    def spy(x, **kwargs):
        shown.append(np.array(seen_by_norm(x)))
        return original(x, **kwargs)

    model.discriminator.call = spy
    fit(model, images, labels)
    (outputs,) = shown
    assert len(outputs) == 16
    norm = model.discriminator.layers[1]
    np.testing.assert_allclose(norm.moving_mean, 0.1 * outputs.mean(axis=(0, 1, 2)), atol=1e-6)
    expected = 0.9 + 0.1 * outputs.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_variance, expected, atol=1e-6)


def test_before_its_phase_it_is_plain_keras_training():
    images, labels = toys.batch(20)
    plain = toys.classifier(kernel_regularizer=L2(0.01))
    plain.compile(
        keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    fit(plain, images, labels, epochs=2)
    model = make(classifier=toys.classifier(kernel_regularizer=L2(0.01)), start_step=100)
    before = toys.state(model)
    history = fit(model, images, labels, epochs=2).history
    changed = {k.split("/")[0] for k in toys.moved(before, toys.state(model))}
    assert changed == {"classifier", "classifier_optimizer"}
    for a, b in zip(toys.arrays(model.classifier.weights), toys.arrays(plain.weights)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert "adversarial_loss" not in history or np.isnan(history["adversarial_loss"]).all()


def test_reported_game_is_that_of_the_steps_on_which_the_discriminator_learned():
    """Rates 0 keep all networks, so the figures can be computed afterwards."""
    images, labels = toys.batch(8)
    model = make(rate=0.0)
    adapted = model.adapt(
        algorithm_jacobian(model.classifier, tf.constant(images), tf.constant(labels))
    )
    real_logit = np.array(model.discriminator(images), np.float64)[:, 0]
    adapted_logit = np.array(model.discriminator(adapted), np.float64)[:, 0]
    l_adv = np.log(1 / (1 + np.exp(-real_logit))) + np.log(1 - 1 / (1 + np.exp(-adapted_logit)))
    history = fit(model, images, labels).history
    np.testing.assert_allclose(history["adversarial_loss"], [l_adv.mean()], rtol=1e-4)
    np.testing.assert_allclose(history["discriminator_real_accuracy"], [(real_logit > 0).mean()])
    np.testing.assert_allclose(
        history["discriminator_adapted_accuracy"], [(adapted_logit <= 0).mean()]
    )


def algorithm_jacobian(classifier, images, labels):
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = keras.losses.sparse_categorical_crossentropy(
            labels, classifier(images), from_logits=True
        )
    return tape.gradient(loss, images)


# Eager, graph and replicas


def varied(**options):
    """Every kind of step, noise, weight decay."""
    options.setdefault("classifier", toys.classifier(kernel_regularizer=L2(0.01)))
    options.setdefault("eager", False)
    return make(
        **{"start_step": 1, "discriminator_interval": 2} | options,
        perturb=attacks.UniformNoise(0.2, 0.5),
        seed=3,
    )


def varied_dense():
    """The discriminator learns at every step."""
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input(toys.IMAGE_SHAPE)
    hidden = layers.Dense(8, activation="tanh", kernel_regularizer=L2(0.01))
    hidden = hidden(layers.Flatten()(image))
    return varied(
        classifier=keras.Model(image, layers.Dense(toys.CLASSES)(hidden)),
        adaptor=keras.Sequential([image, layers.Dense(2, activation="tanh")]),
        discriminator=keras.Sequential([image, layers.Flatten(), layers.Dense(1)]),
        start_step=0,
        discriminator_interval=1,
    )


def varied_ours():
    """With the options that the paper does not have."""
    return varied(
        jacobian_of="margin",
        real_images="blurred",
        regularization_interval=2,
        jacobian_penalty=0.3,
        discriminator_penalty=0.7,
        discriminator_noise=0.4,
    )


def test_eager_is_graph():
    images, labels = toys.batch(29)
    graph, eager = varied(), varied(eager=True)
    for model in (graph, eager):
        fit(model, images, labels)
    toys.assert_same(toys.state(eager), toys.state(graph), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "build"), [(29, varied), (17, varied_dense), (29, varied_ours)])
def test_one_replica_is_two(n, build, two_replicas):
    """The last batch splits into 3 and 2, or into 1 and none.

    Dense in the second case, as TensorFlow's convolutions give no images a wrong shape.
    """
    images, labels = toys.batch(n)
    weights = np.random.default_rng(0).uniform(0.2, 2, n).astype(np.float32)
    one = build()
    with two_replicas.scope():
        two = build()
    histories = [fit(m, images, labels, weights).history for m in (one, two)]
    toys.assert_same(toys.state(two), toys.state(one), rtol=1e-5, atol=1e-5)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, atol=1e-4, err_msg=name)
    expected = one.evaluate(images, labels, 8, verbose=0)
    np.testing.assert_allclose(two.evaluate(images, labels, 8, verbose=0), expected, atol=1e-4)


# Networks and options


def test_an_adaptor_without_weights():
    adaptor = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), keras.layers.Activation("tanh")])
    images, labels = toys.batch(8)
    with_term, without = make(adaptor=adaptor), make(adversarial_weight=0.0)
    for model in (with_term, without):
        fit(model, images, labels, epochs=2)
    difference = with_term.classifier.weights[0] - without.classifier.weights[0]
    assert np.abs(difference).max() > 1e-5


def test_a_frozen_adaptor_stays():
    adaptor = toys.adaptor()
    adaptor.trainable = False
    before = toys.arrays(adaptor.weights)
    images, labels = toys.batch(8)
    fit(make(adaptor=adaptor), images, labels)
    for a, b in zip(toys.arrays(adaptor.weights), before):
        np.testing.assert_array_equal(a, b)


def test_one_optimizer_object_for_two_networks():
    model = JARN(toys.classifier(), toys.adaptor(), toys.discriminator())
    shared = keras.optimizers.Adam()
    for given in ((shared, shared, "adam"), (shared, "adam", shared), ("sgd", shared, shared)):
        with pytest.raises(ValueError, match="optimizer of its own"):
            model.compile(*given)


@pytest.mark.parametrize(
    ("network", "build", "message"),
    [
        ("adaptor", lambda: toys.classifier(), "adaptor must map"),
        ("adaptor", lambda: keras.Sequential([keras.layers.Conv2D(2, 1)]), "adaptor must be"),
        (
            "adaptor",
            lambda: keras.Sequential([keras.Input((5, 5, 2)), keras.layers.Conv2D(2, 1)]),
            "adaptor must map",
        ),
        ("discriminator", lambda: toys.classifier(), "discriminator must map"),
        ("discriminator", lambda: toys.classifier(image_shape=(8, 8, 2)), "discriminator must map"),
        ("discriminator", lambda: "a layer", "discriminator must be"),
    ],
)
def test_networks_that_do_not_fit(network, build, message):
    fitting = {
        "classifier": toys.classifier(),
        "adaptor": toys.adaptor(),
        "discriminator": toys.discriminator(),
    }
    with pytest.raises(ValueError, match=message) as error:
        JARN(**fitting | {network: build()})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        {"adversarial_weight": -1.0},
        {"adversarial_weight": float("nan")},
        {"discriminator_interval": 0},
        {"jacobian_of": "logits"},
        {"gan_loss": "wasserstein"},
        {"real_images": "noisy"},
        {"start_step": -1},
        {"regularization_interval": 0},
        {"jacobian_penalty": -1.0},
        {"discriminator_penalty": -1.0},
        {"discriminator_noise": -0.1},
    ],
)
def test_options_out_of_range(option):
    (name,) = option
    with pytest.raises(ValueError, match=name):
        JARN(toys.classifier(), toys.adaptor(), toys.discriminator(), **option)


CHANGED = {
    "adversarial_weight": 3.0,
    "discriminator_interval": 2,
    "start_step": 5,
    "jacobian_of": "logit",
    "standardize": True,
    "gan_loss": "non_saturating",
    "real_images": "clean",
    "regularization_interval": 2,
    "jacobian_penalty": 0.5,
    "discriminator_penalty": 2.0,
    "discriminator_noise": 0.5,
    "perturb": attacks.UniformNoise(0.3),
    "seed": 4,
}


def test_every_setting_is_changed_here():
    assert set(CHANGED) == set(JARN.SETTINGS)


BEFORE = {"perturb": attacks.UniformNoise(0.1), "seed": 3}


@pytest.fixture(scope="module")
def compiled():
    """Trained by compiled steps of other settings, time and again."""
    model = make(eager=False, **BEFORE)
    fit(model, *toys.batch(16))
    return model


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_changed_between_two_fits_takes_effect(compiled, name):
    """As on an eager model that is made with the new value and has come as far."""
    images, labels = toys.batch(16)
    other = make(**BEFORE | {name: CHANGED[name]})
    for network in ("classifier", "adaptor", "discriminator"):
        for suffix in ("", "_optimizer"):
            here, there = getattr(compiled, network + suffix), getattr(other, network + suffix)
            for a, b in zip(there.variables, here.variables):
                a.assign(b)
    before = getattr(compiled, name)
    setattr(compiled, name, CHANGED[name])
    for model in (compiled, other):
        fit(model, images, labels)
    setattr(compiled, name, before)
    toys.assert_same(toys.state(compiled), toys.state(other), rtol=1e-4, atol=1e-5)


def test_a_setting_changed_by_a_callback_or_in_place_takes_effect():
    """Noise of radius 0 from the second epoch on, once by a new object, once in the old one."""
    images, labels = toys.batch(8)

    def trained(change):
        model = make(eager=False, perturb=attacks.UniformNoise(0.5), seed=3)
        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: change(model) if epoch == 1 else None
        )
        fit(model, images, labels, epochs=2, callbacks=[callback])
        return toys.state(model)

    expected = trained(lambda model: setattr(model, "perturb", None))
    in_place = trained(lambda model: setattr(model.perturb, "epsilon", 0.0))
    toys.assert_same(in_place, expected, rtol=1e-5, atol=1e-6)
    assert toys.moved(expected, trained(lambda model: None))


def test_a_setting_changed_to_what_it_may_not_be_is_refused_in_one_line():
    images, labels = toys.batch(8)
    model = make()
    model.gan_loss = "wasserstein"
    before = toys.state(model)
    with pytest.raises(ValueError, match="gan_loss must be one of") as error:
        fit(model, images, labels)
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), before)


def test_a_penalty_of_the_discriminator_that_is_not_finite_stops_before_the_update():
    images, labels = toys.batch(8)
    model = make(discriminator_penalty=1e38)
    kernel = model.discriminator.layers[-1].kernel
    kernel.assign(100 * kernel)
    before = toys.state(model)
    with pytest.raises(ValueError, match="not finite.*step 0"):
        fit(model, images, labels)
    toys.assert_same(toys.state(model), before)


# Last, as an error of one replica alone ends TensorFlow's collective operations for the process.
def test_a_loss_not_finite_on_one_replica_stops_both(two_replicas):
    images, labels = toys.batch(16)
    weights = np.ones(16, np.float32)
    weights[15] = np.nan  # on the second replica, in the second batch
    with two_replicas.scope():
        model, until_there = make(eager=False), make(eager=False)
    fit(until_there, images[:8], labels[:8])
    with pytest.raises(ValueError, match="not finite.*step 1") as error:
        fit(model, images, labels, weights)
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), toys.state(until_there), rtol=1e-5, atol=1e-6)
