import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from jarn_tf import networks
from jarn_tf.networks.activation import activation_layer

CASES = {
    "mnist_cnn": (lambda: networks.mnist_cnn(pixel_scale=255.0), (28, 28, 1), (10,)),
    "mnist_cnn_rgb": (lambda: networks.mnist_cnn((32, 32, 3), 7), (32, 32, 3), (7,)),
    "compact_cnn": (networks.compact_cnn, (32, 32, 3), (10,)),
    "compact_cnn_grey": (
        lambda: networks.compact_cnn((16, 16, 1), 3, normalization="image"),
        (16, 16, 1),
        (3,),
    ),
    "wide_resnet": (lambda: networks.wide_resnet((16, 16, 3), 10, 1, 1), (16, 16, 3), (10,)),
    "wide_resnet_2": (lambda: networks.wide_resnet((8, 8, 1), 4, 2, 2), (8, 8, 1), (4,)),
    "adaptor": (lambda: networks.adaptor((9, 7, 3)), (9, 7, 3), (9, 7, 3)),
    "discriminator_2": (lambda: networks.discriminator((28, 28, 1)), (28, 28, 1), (1,)),
    "discriminator_5": (
        lambda: networks.discriminator((32, 32, 3), (4, 4, 8, 8, 8)),
        (32, 32, 3),
        (1,),
    ),
    "discriminator_2_bn": (
        lambda: networks.discriminator((28, 28, 1), batch_norm=True),
        (28, 28, 1),
        (1,),
    ),
    "discriminator_5_bn": (
        lambda: networks.discriminator((32, 32, 3), (4, 4, 8, 8, 8), batch_norm=True),
        (32, 32, 3),
        (1,),
    ),
}


@pytest.fixture(params=CASES)
def case(request, rng):
    build, image_shape, output_shape = CASES[request.param]
    keras.utils.set_random_seed(0)
    images = rng.uniform(0, 1, (4, *image_shape)).astype(np.float32)
    return request.param, build(), tf.constant(images), output_shape


def test_shape_and_a_gradient_for_every_variable(case):
    name, model, images, output_shape = case
    with tf.GradientTape() as tape:
        outputs = model(images, training=False)
        mix = tf.random.stateless_normal(outputs.shape, (0, 0))
        value = tf.reduce_sum(mix * outputs)
    assert outputs.shape == (4, *output_shape)
    gradients = tape.gradient(value, model.trainable_variables)
    assert gradients
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None, variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_plain_keras_reload(case, tmp_path):
    """Made of Keras's own layers only, so that the file loads without this package."""
    _, model, images, _ = case
    for layer in model._flatten_layers(include_self=False):
        assert type(layer).__module__.startswith("keras."), layer
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_wide_resnet_has_the_parameters_of_madry_et_al():
    convolutions, norms = 9 * 3 * 16, 0
    before = 16
    for channels in (160, 320, 640):
        for _ in range(5):
            convolutions += 9 * before * channels + 9 * channels * channels
            norms += 2 * before + 2 * channels
            before = channels
    norms += 2 * before
    model = networks.wide_resnet()
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == convolutions + norms + before * 10 + 10
    kernels = [v for v in model.trainable_variables if len(v.shape) == 4]
    assert len(kernels) == 31  # 6 * units + 1, with the dense layer and 2 shortcuts depth 34


def test_wide_resnet_standardises_as_tensorflow_does(rng):
    """Madry et al. use `tf.image.per_image_standardization` of pixels in 0..255."""
    model = networks.wide_resnet((16, 16, 3), 10, 1, 1)
    first = next(v for v in model.layers if isinstance(v, keras.layers.Conv2D))
    images = rng.uniform(0, 1, (3, 16, 16, 3)).astype(np.float32)
    images[1] = 0.4 + 0.1 * images[1]  # little contrast
    images[2] = 0.25  # none
    seen = keras.Model(model.input, first.input)(images)
    expected = tf.image.per_image_standardization(255 * images)
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_adaptor_starts_as_tanh_and_can_stay_so(rng):
    jacobians = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)
    for trainable in (True, False):
        model = networks.adaptor((5, 5, 3), trainable)
        np.testing.assert_allclose(model(jacobians), np.tanh(jacobians), atol=1e-6)
        assert bool(model.trainable_variables) == trainable
    model = networks.adaptor((5, 5, 3), gain=7.0)
    np.testing.assert_allclose(model(jacobians / 7), np.tanh(jacobians), atol=1e-6)


def test_a_discriminator_of_patches_does_not_ask_where_a_patch_lies(rng):
    """Its 10x10 field at stride 4 is moved by 8 pixels; what is around it is empty."""
    image = np.zeros((2, 64, 64, 1), np.float32)
    image[0, 16:24, 16:24] = image[1, 24:32, 32:40] = rng.uniform(0, 1, (8, 8, 1))
    patches, whole = (
        networks.discriminator((64, 64, 1), patches=patches)(image)[:, 0]
        for patches in (True, False)
    )
    np.testing.assert_allclose(patches[0], patches[1], rtol=1e-5)
    assert abs(whole[0] - whole[1]) > 1e-3


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 30, 3), (25, 7, 2)])
def test_mnist_cnn_is_three_convolutions_of_stride_5(rng, image_shape):
    """Beside Keras's own convolutions: the same weights from the same seed, the same logits."""
    keras.utils.set_random_seed(3)
    model = networks.mnist_cnn(image_shape, 7)
    keras.utils.set_random_seed(3)
    convolutions = [
        keras.layers.Conv2D(channels, 5, strides=5, padding="same", activation="relu")
        for channels in (64, 128, 256)
    ]
    other = keras.Sequential(
        [keras.Input(image_shape), *convolutions, keras.layers.Flatten(), keras.layers.Dense(7)]
    )
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs.reshape(mine.shape), rtol=1e-6)
    images = rng.uniform(0, 1, (3, *image_shape)).astype(np.float32)
    np.testing.assert_allclose(model(images), other(images), atol=1e-5)


def test_compact_cnn_normalises_by_the_dataset_or_by_the_image(rng):
    images = rng.uniform(0.2, 0.8, (3, 32, 32, 3)).astype(np.float32)
    keras.utils.set_random_seed(0)
    layer = networks.compact_cnn().layers[0]
    mean, deviation = np.array([125.3, 123.0, 113.9]) / 255, np.array([63.0, 62.1, 66.7]) / 255
    np.testing.assert_allclose(layer(images), (images - mean) / deviation, atol=0.01)
    model = networks.compact_cnn(normalization="image")
    np.testing.assert_allclose(model(images), model(0.5 * images + 0.1), atol=0.01)
    fixed = networks.compact_cnn()
    assert np.abs(fixed(images) - fixed(0.5 * images + 0.1)).max() > 0.1
    with pytest.raises(ValueError, match="normalization must be one of dataset, image"):
        networks.compact_cnn(normalization="batch")


@pytest.mark.parametrize(
    "build",
    [
        lambda decay: networks.mnist_cnn(weight_decay=decay),
        lambda decay: networks.wide_resnet((8, 8, 3), 10, 1, 1, weight_decay=decay),
        lambda decay: networks.compact_cnn((8, 8, 3), weight_decay=decay),
        lambda decay: networks.adaptor((8, 8, 3), weight_decay=decay),
        lambda decay: networks.discriminator((28, 28, 1), weight_decay=decay),
    ],
)
def test_weight_decay_is_half_the_squared_norm_of_the_kernels(build):
    model = build(2e-4)
    kernels = [np.array(v) for v in model.trainable_variables if v.name == "kernel"]
    expected = 1e-4 * sum((k.astype(np.float64) ** 2).sum() for k in kernels)
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)
    assert not build(0.0).losses


# Activations and sizes

ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.1 * x,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "softplus": lambda x: math.log1p(math.exp(x)),
}


def activations_of(model):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Activation, keras.layers.LeakyReLU))
    ]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (networks.mnist_cnn, 3),
        (lambda **options: networks.wide_resnet((8, 8, 3), 10, 2, 1, **options), 13),
        (networks.compact_cnn, 7),
    ],
)
def test_a_network_has_the_activation_it_is_given_and_no_other(build, expected, name):
    model = build(activation=name)
    points = np.linspace(-4, 4, 33)
    values = [ACTIVATIONS[name](x) for x in points]
    layers = activations_of(model)
    assert len(layers) == expected
    for layer in layers:
        np.testing.assert_allclose(layer(points.astype(np.float32)), values, atol=1e-6)
    for layer in model.layers:
        assert getattr(layer, "activation", keras.activations.linear) in (
            keras.activations.linear,
            *(getattr(inside, "activation", None) for inside in layers),
        )


@pytest.mark.parametrize("name", ["swish", "tanh", "", "ReLU", None])
@pytest.mark.parametrize("build", [activation_layer, lambda n: networks.mnist_cnn(activation=n)])
def test_an_unknown_activation_is_refused(build, name):
    with pytest.raises(ValueError, match="activation must be one of relu, leaky_relu") as error:
        build(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("units", "width"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_units_and_width_of_a_wide_resnet(units, width):
    """16 channels, then three stages of twice as many each; every second halves the picture."""
    model = networks.wide_resnet((16, 16, 3), 10, units, width)
    kernels = [v.shape for v in model.trainable_variables if len(v.shape) == 4]
    stages = [c * width for c in (16, 32, 64) for _ in range(2 * units)]
    assert [shape[-1] for shape in kernels] == [16, *stages]
    assert [shape[-2] for shape in kernels] == [3, 16, *stages[:-1]]
    last = model.layers[-2].input
    assert last.shape[1:] == (4, 4, 64 * width)
