"""Any Keras model as a classifier from images in [0, 1] to logits."""

import keras
import numpy as np
import pytest
import toys

from jarn_tf import JARN, Defense, as_classifier, attacks, evaluation, networks

SHAPE = toys.IMAGE_SHAPE
CLASSES = toys.CLASSES


@keras.saving.register_keras_serializable("test_classifiers")
class Subclassed(keras.Model):
    """Knows no shape before it is called."""

    def __init__(self, units=CLASSES, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = units, activation
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(8, "tanh")
        self.last = keras.layers.Dense(units, activation)

    def call(self, images, training=False):
        return self.last(self.hidden(self.flatten(images)))

    def get_config(self):
        return super().get_config() | {"units": self.units, "activation": self.activation}


def images_of(n=6):
    return toys.batch(n)[0]


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def layers_ending_in(*last):
    return [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(8, "tanh"), *last]


def nested(model):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, model(inputs))


def functional_op():
    inputs = keras.Input(SHAPE)
    logits = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.ops.softmax(logits))


def without_input():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(CLASSES, "softmax")])
    model(images_of(2))
    return model


def called(model):
    model(images_of(2))
    return model


Dense = keras.layers.Dense
#: Models of probabilities, and whether their graph shows the softmax.
PROBABILITIES = {
    "activation": lambda: keras.Sequential(layers_ending_in(Dense(CLASSES, "softmax"))),
    "layer": lambda: keras.Sequential(layers_ending_in(Dense(CLASSES), keras.layers.Softmax())),
    "activation layer": lambda: keras.Sequential(
        layers_ending_in(Dense(CLASSES), keras.layers.Activation("softmax"))
    ),
    "operation": functional_op,
    "inside of another": lambda: nested(nested(PROBABILITIES["activation"]())),
    "without an input": without_input,
    "subclassed": lambda: called(Subclassed(activation="softmax")),
    "subclass inside": lambda: nested(Subclassed(activation="softmax")),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_logits_whose_softmax_is_what_the_model_returned(kind):
    model = PROBABILITIES[kind]()
    classifier = as_classifier(model, probabilities=True)
    images = images_of(6)
    logits = classifier.predict(images, verbose=0)
    assert classifier.input_shape == (None, *SHAPE)
    assert not np.allclose(logits.sum(axis=1), 1)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-4, atol=1e-6)


def sure(kind, factor=200.0):
    """A model that is so sure of itself that its probabilities are 0 and 1 in float32."""
    model = PROBABILITIES[kind]()
    model.set_weights([factor * weight for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", [kind for kind in PROBABILITIES if "subclass" not in kind])
def test_a_softmax_that_the_graph_shows_is_undone_where_it_has_no_gradient(kind):
    model, images = sure(kind), images_of(6)
    probabilities = model.predict(images, verbose=0)
    assert (probabilities == 0).any()
    logits = as_classifier(model, probabilities=True).predict(images, verbose=0)
    ranks = np.sort(logits, axis=1)
    assert (np.diff(ranks) > 0).all()
    np.testing.assert_array_equal(logits.argmax(axis=1), probabilities.argmax(axis=1))


@pytest.mark.parametrize("subclassed", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_yes_or_no_has_two_logits(activation, subclassed):
    if subclassed:
        model = called(Subclassed(1, activation))
    else:
        model = keras.Sequential(layers_ending_in(Dense(1, activation)))
    classifier = as_classifier(model, probabilities=activation is not None)
    images = images_of(6)
    found = classifier.predict(images, verbose=0)
    returned = model.predict(images, verbose=0)[:, 0]
    yes = returned if activation else 1 / (1 + np.exp(-returned))
    np.testing.assert_allclose(softmax(found), np.stack([1 - yes, yes], axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found[:, 0], 0) if not (activation and subclassed) else None


def test_pixels_up_to_255():
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), Dense(CLASSES)])
    images = images_of(4)
    found = as_classifier(model, pixel_scale=255.0).predict(images, verbose=0)
    expected = model.predict(255 * images, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("taken", [(6, 12), (int(np.prod(SHAPE)),), (None, None, SHAPE[2])])
def test_other_shapes_of_images(taken):
    inputs = keras.Input(taken)
    if None in taken:
        features = keras.layers.GlobalAveragePooling2D()(inputs)
    else:
        features = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, Dense(CLASSES)(features))
    told = {} if len(taken) == 2 else {"image_shape": SHAPE}
    shape = (*taken, 1) if len(taken) == 2 else SHAPE
    classifier = as_classifier(model, **told)
    images = images_of(4).reshape((-1, *shape))
    as_taken = images if None in taken else images.reshape((-1, *taken))
    assert classifier.input_shape == (None, *shape)
    expected = model.predict(as_taken, verbose=0)
    np.testing.assert_allclose(classifier.predict(images, verbose=0), expected, rtol=1e-5)


def test_weights_are_shared():
    model = keras.Sequential(layers_ending_in(Dense(CLASSES)))
    classifier = as_classifier(model, pixel_scale=2.0)
    before = classifier.predict(images_of(4), verbose=0)
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert not np.allclose(before, classifier.predict(images_of(4), verbose=0))


def test_a_classifier_is_saved_and_loaded_by_keras_alone(tmp_path):
    model = keras.Sequential(layers_ending_in(Dense(1, "sigmoid")))
    classifier = as_classifier(model, pixel_scale=255.0, probabilities=True)
    classifier.save(tmp_path / "classifier.keras")
    again = keras.models.load_model(tmp_path / "classifier.keras")
    images = images_of(4)
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), classifier.predict(images, verbose=0)
    )


def test_a_subclassed_model_that_was_called_is_taken_as_it_is():
    """By attacks, the verdict, the Jacobian and training, with the answers of its wrapped self."""
    images, labels = toys.batch(8)
    model = called(Subclassed())
    wrapped = as_classifier(model)
    options = {"epsilon": 0.1}
    for attack in (attacks.fgsm, attacks.pgd, attacks.apgd, attacks.square, attacks.fab):
        few = {attacks.pgd: {"steps": 3}, attacks.square: {"queries": 20}}.get(attack, {})
        few |= {"steps": 5} if attack in (attacks.apgd, attacks.fab) else {}
        np.testing.assert_allclose(
            attack(model, images, labels, **options, **few),
            attack(wrapped, images, labels, **options, **few),
            atol=1e-6,
        )
    assert evaluation.robustness(model, images, labels, [evaluation.Attack("fgsm", 0.1)])
    defense = Defense(model)
    assert defense.input_shape == (None, *SHAPE) and defense.output_shape == (None, CLASSES)
    jarn = JARN(model, networks.adaptor(SHAPE), networks.discriminator(SHAPE, (4,)))
    jarn.compile()
    before = toys.arrays(model.weights)
    jarn.fit(images, labels, verbose=0)
    assert any((a != b).any() for a, b in zip(before, toys.arrays(model.weights)))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: Subclassed(), {}, r"has not seen an image yet. Give .*image_shape=\(height"),
        (lambda: keras.Sequential([Dense(3)]), {}, "has not seen an image yet"),
        (lambda: "model.keras", {}, "must be a Keras model. Received: 'model.keras'"),
        (lambda: toys.classifier(), {"pixel_scale": 0}, "pixel_scale must be"),
        (lambda: toys.classifier(), {"image_shape": (5, 5, 9)}, r"takes images .* \(5, 5, 9\)"),
        (lambda: toys.classifier(), {"image_shape": (5, 5)}, "three whole numbers"),
        (lambda: keras.Sequential([keras.Input((75,)), Dense(3)]), {}, r"takes inputs .*Give "),
        (lambda: keras.Sequential([keras.Input(SHAPE), Dense(3)]), {}, r"\[batch, classes\]"),
    ],
)
def test_refusals_say_what_to_do(make, options, message):
    with pytest.raises(ValueError, match=message) as error:
        as_classifier(make(), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Subclassed(),
        lambda: keras.Sequential(layers_ending_in(Dense(1))),
        lambda: keras.Sequential(layers_ending_in(Dense(CLASSES, "softmax"))),
        lambda: keras.Sequential([keras.Input((75,)), Dense(CLASSES)]),
    ],
)
def test_what_attacks_and_training_refuse_names_as_classifier(make):
    images, labels = toys.batch(4)
    for refuses in (Defense, lambda model: attacks.fgsm(model, images, labels, epsilon=0.1)):
        with pytest.raises(ValueError, match="as_classifier|Call it on images once") as error:
            refuses(make())
        assert "\n" not in str(error.value)


def test_a_model_of_two_inputs():
    inputs = [keras.Input((6, 6, 2)), keras.Input((6, 6, 2))]
    model = keras.Model(inputs, keras.layers.Flatten()(inputs[0] + inputs[1]))
    with pytest.raises(ValueError, match="one input and one output. Received: 2 inputs"):
        as_classifier(model)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (lambda x: keras.layers.Dense(1, "sigmoid")(x), {}, "probabilities=True"),
        (lambda x: keras.layers.Dense(3)(x), {"probabilities": True}, "has no activation"),
        (lambda x: [keras.layers.Dense(3)(x)] * 2, {}, "2 outputs"),
        (lambda x: keras.layers.Dense(3)(x), {"image_shape": 8}, "three whole numbers"),
        (lambda x: keras.layers.Dense(3)(x), {"image_shape": (6, 2, 6)}, "takes images"),
    ],
)
def test_models_that_are_another_kind_than_told(build, options, message):
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, build(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=message) as error:
        as_classifier(model, **options)
    assert "\n" not in str(error.value)


class Branching(Subclassed):
    """Looks at its images in Python, which works eagerly alone."""

    def build(self, input_shape):
        self.hidden.build((None, int(np.prod(SHAPE))))
        self.last.build((None, 8))

    def call(self, images, training=False):
        return super().call(images if keras.ops.mean(images) > 0.5 else 2 * images)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, *of: as_classifier(model),
        lambda model, *of: attacks.pgd(model, *of, epsilon=0.1),
        lambda model, *of: evaluation.robustness(model, *of, [evaluation.Attack("fgsm", 0.1)]),
        lambda model, images, labels: evaluation.alignment_and_robustness(model, images),
        lambda model, *of: compiled(JARN(model)).fit(*of, verbose=0),
        lambda model, *of: compiled(Defense(model)).evaluate(*of, verbose=0),
    ],
)
def test_a_model_that_branches_in_python_is_told_what_to_do(use):
    with pytest.raises(ValueError, match="cannot be compiled.*keras.ops.where") as error:
        use(called(Branching()), *toys.batch(4))
    assert "\n" not in str(error.value)


def compiled(model):
    model.compile("adam")
    return model


def test_what_a_model_raises_is_one_line_that_says_why():
    class Broken(keras.Model):
        def call(self, images):
            raise RuntimeError("no such thing")

    with pytest.raises(ValueError, match="cannot be called.*no such thing") as error:
        as_classifier(Broken(), image_shape=(6, 6, 2))
    assert "\n" not in str(error.value)
