"""What a Keras user expects of a model, of each kind of defense."""

import csv
import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import toys

from jarn_tf import JARN, Defense, attacks
from jarn_tf.baselines import InputGradientPenalty

COUNT = 12
IMAGES, LABELS = toys.batch(COUNT)
ONE_HOT = np.eye(toys.CLASSES, dtype=np.float32)[LABELS]
SOFT = 0.8 * ONE_HOT + 0.2 / toys.CLASSES
WEIGHTS = np.linspace(0.5, 1.5, COUNT).astype(np.float32)


def jarn(classifier, **options):
    return JARN(classifier, toys.adaptor(), toys.discriminator(), **options)


def double_backprop(classifier, **options):
    return InputGradientPenalty(classifier, 0.5, **options)


DEFENSES = pytest.mark.parametrize("build", [Defense, double_backprop, jarn])


def compiled(build, **options):
    model = build(toys.classifier(), perturb=attacks.UniformNoise(0.1))
    # Eager, as nothing but compiling takes time here; tests of compiled steps stand elsewhere.
    model.compile("sgd", **{"run_eagerly": True} | options)
    return model


def state(model):
    return toys.state(model)


def fitted(build, *data, **options):
    model = compiled(build)
    model.fit(*data, epochs=2, verbose=0, **{"shuffle": False} | options)
    return state(model)


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return IMAGES[part], LABELS[part]


def generator():
    while True:
        for start in range(0, COUNT, 4):
            yield IMAGES[start : start + 4], LABELS[start : start + 4]


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


FORMS = {
    "NumPy": ((IMAGES, LABELS), {"batch_size": 4}),
    "tensors": ((tf.constant(IMAGES), tf.constant(LABELS)), {"batch_size": 4}),
    "tf.data": ((dataset(IMAGES, LABELS),), {}),
    "PyDataset": ((Sequence(),), {}),
    "generator": ((generator,), {"steps_per_epoch": 3}),
    "one-hot": ((IMAGES, ONE_HOT), {"batch_size": 4}),
    "column": ((IMAGES, LABELS[:, None]), {"batch_size": 4}),
    "float64": ((IMAGES.astype(np.float64), LABELS), {"batch_size": 4}),
    "unit weights": ((IMAGES, LABELS), {"batch_size": 4, "sample_weight": np.ones(COUNT)}),
    "even class weights": (
        (IMAGES, LABELS),
        {"batch_size": 4, "class_weight": dict.fromkeys(range(toys.CLASSES), 1.0)},
    ),
}


@pytest.fixture(scope="module")
def by_numpy():
    return {
        build: fitted(build, IMAGES, LABELS, batch_size=4)
        for build in (Defense, double_backprop, jarn)
    }


@DEFENSES
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_trains_alike(build, form, by_numpy):
    data, options = FORMS[form]
    data = [
        part() if callable(part) and not isinstance(part, keras.utils.PyDataset) else part
        for part in data
    ]
    toys.assert_same(fitted(build, *data, **options), by_numpy[build], rtol=1e-5, atol=1e-6)


@DEFENSES
def test_soft_labels_and_sample_weights_count(build, by_numpy):
    for data, options in (
        ((IMAGES, SOFT), {}),
        ((IMAGES, LABELS), {"sample_weight": WEIGHTS}),
        ((IMAGES, LABELS), {"class_weight": {0: 0.5, 1: 1.0, 2: 2.0}}),
        ((dataset(IMAGES, LABELS, WEIGHTS),), {}),
    ):
        options = options if len(data) == 1 else options | {"batch_size": 4}
        after = fitted(build, *data, **options)
        assert any((after[name] != array).any() for name, array in by_numpy[build].items())


@DEFENSES
def test_validation_and_custom_metrics_and_losses(build):
    model = build(toys.classifier())

    def halves(labels, logits):
        return tf.abs(tf.nn.softmax(logits)[:, 0] - 0.5)

    model.compile(
        "sgd",
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top2"), halves],
        run_eagerly=True,
    )
    fit = {"epochs": 2, "batch_size": 4, "verbose": 0}
    history = model.fit(IMAGES, ONE_HOT, validation_data=(IMAGES, ONE_HOT), **fit).history
    for name in ("loss", "accuracy", "top2", "halves"):
        assert len(history[name]) == len(history[f"val_{name}"]) == 2
    logits = model.predict(IMAGES, verbose=0)
    found = model.evaluate(IMAGES, ONE_HOT, verbose=0, return_dict=True)
    assert found["top2"] == pytest.approx(
        np.mean([label in np.argsort(row)[-2:] for label, row in zip(LABELS, logits)])
    )
    expected = keras.losses.categorical_crossentropy(
        ONE_HOT, logits, from_logits=True, label_smoothing=0.1
    )
    assert found["loss"] == pytest.approx(float(np.mean(expected)), rel=1e-5)
    assert found["halves"] == pytest.approx(float(np.mean(halves(LABELS, logits))), rel=1e-5)


@DEFENSES
def test_standard_callbacks(build, tmp_path):
    model = compiled(build)
    model.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        epochs=4,
        verbose=0,
        validation_split=0.25,
        callbacks=[
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.TensorBoard(tmp_path / "tensorboard"),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1)),
            keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9),
            keras.callbacks.TerminateOnNaN(),
        ],
    )
    with open(tmp_path / "log.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]  # stopped early
    assert float(np.array(model.classifier_optimizer.learning_rate)) == pytest.approx(0.05)
    loaded = keras.models.load_model(tmp_path / "2.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
    again = compiled(build)
    again.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


def test_columns_of_a_later_phase_are_there_from_the_first_epoch(tmp_path):
    model = jarn(toys.classifier(), start_step=4, discriminator_interval=1)
    model.compile("sgd", run_eagerly=True)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(IMAGES, LABELS, batch_size=4, epochs=3, verbose=0, callbacks=[log]).history
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name in ("adversarial_loss", "discriminator_real_accuracy"):
        assert [np.isnan(float(row[name])) for row in rows] == [True, False, False]
        assert np.isnan(history[name]).tolist() == [True, False, False]


def test_reduced_learning_rates_are_the_classifier_s():
    model = compiled(jarn)
    callback = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=0, min_delta=1e9, cooldown=0)
    model.fit(IMAGES, LABELS, batch_size=4, epochs=3, verbose=0, callbacks=[callback])
    rates = [float(np.array(getattr(model, name).learning_rate)) for name in model.OPTIMIZERS]
    assert rates == pytest.approx([0.01 / 4, 0.001, 0.001])


def test_every_optimizer_may_have_a_schedule_clipping_and_an_average():
    def optimizer(**options):
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.0])
        return keras.optimizers.SGD(schedule, clipnorm=1e-3, **options)

    model = jarn(toys.classifier(), discriminator_interval=1)
    model.compile(optimizer(use_ema=True), optimizer(), optimizer(), run_eagerly=True)
    fit = {"batch_size": 4, "verbose": 0}
    before = state(model)
    model.fit(IMAGES, LABELS, epochs=1, **fit)
    after = state(model)
    for network in ("classifier", "adaptor", "discriminator"):
        weights = [n for n in before if n.startswith(f"{network}/")]
        moved = np.sqrt(sum(np.sum((after[n] - before[n]) ** 2) for n in weights))
        assert 0 < moved <= 3 * 0.1 * np.sqrt(len(weights)) * 1e-3 * 1.01  # clipped, a weight each
    model.fit(IMAGES, LABELS, epochs=1, **fit)  # the schedule is at 0 by now
    for name, array in state(model).items():
        if "optimizer" not in name:
            np.testing.assert_array_equal(array, after[name])


@DEFENSES
def test_accumulated_gradients_are_those_of_a_large_batch(build):
    """Without noise and with L_cls's mean over equal batches, of the classifier's optimizer."""
    if build is jarn:
        pytest.skip("its other two networks would be at other steps")

    def after(batch_size, **options):
        model = build(toys.classifier())
        model.compile(keras.optimizers.SGD(0.1, **options), run_eagerly=True)
        model.fit(IMAGES, LABELS, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)
        return toys.arrays(model.classifier.weights)

    for accumulated, large in zip(after(6, gradient_accumulation_steps=2), after(12)):
        np.testing.assert_allclose(accumulated, large, rtol=1e-5, atol=1e-6)


@DEFENSES
def test_several_steps_between_callbacks(build, by_numpy):
    model = compiled(build, steps_per_execution=2)
    called = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: called.append(batch)
    )
    model.fit(
        IMAGES, LABELS, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=[callback]
    )
    assert called == [1, 3, 1, 3]
    toys.assert_same(state(model), by_numpy[build], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 5])
def test_metrics_are_of_each_image_once(steps):
    """Where the length of the data is not known, and several steps run in one call."""
    model = Defense(toys.classifier())
    model.compile(keras.optimizers.SGD(0.0), steps_per_execution=steps)
    logits = model.predict(IMAGES, verbose=0)
    loss = scipy.special.logsumexp(logits, axis=1) - logits[np.arange(COUNT), LABELS]
    accuracy = np.mean(np.argmax(logits, axis=1) == LABELS)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4, drop_remainder=True)
    for same in data, data.filter(lambda images, labels: True):
        trained = model.fit(same, epochs=2, verbose=0).history
        np.testing.assert_allclose(trained["loss"], 2 * [loss.mean()], rtol=1e-5)
        np.testing.assert_allclose(trained["accuracy"], 2 * [accuracy], rtol=1e-5)
        np.testing.assert_allclose(model.evaluate(same, verbose=0), [loss.mean(), accuracy], 1e-5)
    assert int(model.step) == 4 * COUNT // 4


def test_several_steps_of_batches_of_unknown_rank():
    """As `from_generator` has them that is told types alone."""

    def after(steps):
        model = Defense(toys.classifier())
        model.compile("sgd", steps_per_execution=steps)
        types = (tf.float32, tf.int64)
        data = tf.data.Dataset.from_generator(lambda: itertools.islice(generator(), 3), types)
        model.fit(data, epochs=1, verbose=0)
        return state(model)

    toys.assert_same(after(2), after(1), rtol=1e-6, atol=1e-7)


@DEFENSES
def test_several_steps_in_one_call(build):
    """Of several kinds, compiled, as one by one."""

    def after(steps):
        model = build(toys.classifier(), perturb=attacks.UniformNoise(0.1))
        model.compile("sgd", steps_per_execution=steps)
        model.fit(IMAGES, LABELS, batch_size=3, epochs=2, verbose=0, shuffle=False)
        return state(model)

    toys.assert_same(after(4), after(1), rtol=1e-6, atol=1e-7)


@DEFENSES
def test_steps_compiled_by_xla(build):
    """Without random numbers, which XLA draws otherwise."""

    def after(jit_compile):
        model = build(toys.classifier())
        model.compile("sgd", jit_compile=jit_compile)
        model.fit(IMAGES, LABELS, batch_size=6, epochs=1, verbose=0, shuffle=False)
        return state(model)

    toys.assert_same(after(True), after(False), rtol=1e-4, atol=1e-5)


@DEFENSES
def test_frozen_layers_stay(build):
    classifier = toys.classifier()
    classifier.layers[0].trainable = False
    before = toys.arrays(classifier.layers[0].weights)
    dense = toys.arrays(classifier.layers[-1].weights)
    model = build(classifier)
    model.compile("sgd", run_eagerly=True)
    model.fit(IMAGES, LABELS, verbose=0)
    for array, old in zip(toys.arrays(classifier.layers[0].weights), before):
        np.testing.assert_array_equal(array, old)
    assert (toys.arrays(classifier.layers[-1].weights)[0] != dense[0]).any()


@DEFENSES
def test_a_clone_is_another_of_the_same(build):
    options = {"start_step": 1, "discriminator_interval": 2} if build is jarn else {}
    model = build(toys.classifier(), seed=7, **options)
    clone = type(model).from_config(model.get_config())
    assert clone.classifier is not model.classifier
    assert {name: getattr(clone, name) for name in model.SETTINGS if name != "perturb"} == {
        name: getattr(model, name) for name in model.SETTINGS if name != "perturb"
    }


@DEFENSES
def test_saved_and_cloned_before_it_is_compiled(build, tmp_path):
    model = build(toys.classifier())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    assert not loaded.compiled
    assert type(keras.models.clone_model(model)) is type(model)


@DEFENSES
@pytest.mark.parametrize("kind", ["subclass", "multiplied"])
def test_a_softmax_that_the_last_layer_does_not_show_is_refused(build, kind):
    logits = toys.classifier()

    class Softmax(keras.Model):
        def call(self, images):
            return keras.ops.softmax(logits(images))

    classifier = Softmax()
    classifier(IMAGES)
    if kind == "multiplied":
        classifier = keras.Model(logits.inputs, keras.layers.Softmax()(logits.outputs[0]) * 1.0)
    with pytest.raises(ValueError, match="Received one that returns probabilities"):
        build(classifier)


@DEFENSES
def test_a_frozen_classifier_is_said(build):
    classifier = toys.classifier()
    classifier.trainable = False
    with pytest.warns(UserWarning, match="no trainable weights"):
        build(classifier).compile()


@DEFENSES
@pytest.mark.parametrize("first", ["fit", "predict", "call"])
def test_export(build, first, tmp_path):
    model = compiled(build)
    if first == "fit":
        model.fit(IMAGES, LABELS, verbose=0)
    elif first == "predict":
        model.predict(IMAGES, verbose=0)
    else:
        model(IMAGES)
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(
        saved.serve(tf.constant(IMAGES)), model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6
    )


@DEFENSES
def test_two_fits_are_one_of_as_many_epochs(build, by_numpy):
    model = compiled(build)
    for _ in range(2):
        model.fit(IMAGES, LABELS, batch_size=4, epochs=1, verbose=0, shuffle=False)
    toys.assert_same(state(model), by_numpy[build], rtol=1e-6, atol=1e-7)


# No silent nothing


def grey(build_shape=(6, 6, 1)):
    return toys.classifier(image_shape=build_shape)


def test_images_without_a_channel_axis():
    images = IMAGES[..., :1]
    states = []
    for some in (images, images[..., 0]):
        model = Defense(grey())
        model.compile("sgd", run_eagerly=True)
        model.fit(some, LABELS, verbose=0, shuffle=False)
        states.append((state(model), model.evaluate(some, LABELS, verbose=0)))
    toys.assert_same(states[0][0], states[1][0])
    assert states[0][1] == states[1][1]


@DEFENSES
def test_images_off_by_rounding_are_clipped(build, by_numpy):
    edges = np.where(IMAGES == 0, np.float32(-1e-6), IMAGES)
    edges = np.where(IMAGES == 1, np.float32(1 + 1e-6), edges)
    toys.assert_same(fitted(build, edges, LABELS, batch_size=4), by_numpy[build])
    with pytest.raises(ValueError, match="images must lie in"):
        fitted(build, np.where(IMAGES == 1, np.float32(1.00001), IMAGES), LABELS)


def test_a_dataset_that_is_not_batched():
    model = compiled(Defense)
    single = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    with pytest.raises(ValueError, match=r"come in batches. Received.*\.batch"):
        model.fit(single, verbose=0)


def test_classifiers_of_images_of_any_size():
    def of_any_size():
        inputs = keras.Input((None, None, 2))
        pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
        return keras.Model(inputs, keras.layers.Dense(toys.CLASSES)(pooled))

    model = Defense(of_any_size())
    model.compile("sgd", run_eagerly=True)
    model.fit(IMAGES, LABELS, verbose=0)
    with pytest.raises(ValueError, match="as_classifier"):
        JARN(of_any_size())


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_a_batch_after_a_refused_one(method):
    """A trace that failed must not be in the way of the next."""
    model, images, labels = compiled(Defense), *toys.batch(8)
    with pytest.raises(ValueError, match="at least one image"):
        getattr(model, method)(images[:0], labels[:0])
    found = getattr(model, method)(images, labels)
    fresh = getattr(compiled(Defense), method)(images, labels)
    np.testing.assert_allclose(found, fresh, rtol=1e-6)


def test_xla_on_several_replicas_is_refused(two_replicas):
    with two_replicas.scope():
        model = Defense(toys.classifier())
    with pytest.raises(ValueError, match="jit_compile is for one device.*2 replicas"):
        model.compile("sgd", jit_compile=True)


def test_networks_made_outside_of_the_scope(two_replicas):
    classifier, discriminator = toys.classifier(), toys.discriminator()
    with two_replicas.scope():
        Defense(toys.classifier())
        with pytest.raises(ValueError, match="within `with strategy.scope"):
            Defense(classifier)
        with pytest.raises(ValueError, match="The discriminator must be made"):
            JARN(toys.classifier(), toys.adaptor(), discriminator)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES[:, :4], LABELS), "images must be of shape"),
        ((IMAGES,), "Images need labels"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(data, message):
    with pytest.raises(ValueError, match=message) as error:
        compiled(Defense).fit(*data, verbose=0)
    assert "\n" not in str(error.value)


def test_what_compile_refuses():
    with pytest.raises(ValueError, match="steps_per_execution must be a whole number"):
        compiled(Defense, steps_per_execution=0)
