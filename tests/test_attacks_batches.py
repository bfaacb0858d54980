"""Attacks on many images: the same images whatever is attacked at once and however they come."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import attacks, evaluation
from jarn_tf.attacks.autoattack import VERSIONS
from jarn_tf.batches import PART
from jarn_tf.evaluation import Attack
from jarn_tf.evaluation import robustness as robustness_of

EPSILON = 0.06
N = 33  # no multiple of anything
ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": functools.partial(attacks.pgd, steps=4, restarts=2),
    "pgd_stop": functools.partial(attacks.pgd, steps=4, stop_when_misclassified=True),
    "apgd": functools.partial(attacks.apgd, steps=6),
    "apgd_t": functools.partial(attacks.apgd, steps=6, loss="margin", targets=2),
    "fab": functools.partial(attacks.fab, steps=4, restarts=2),
    "square": functools.partial(attacks.square, queries=40),
    "autoattack": attacks.autoattack,
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@pytest.fixture(autouse=True)
def short_autoattack(monkeypatch):
    steps = {"square": {"queries": 40}}
    short = {
        name: (function, settings | steps.get(name, {"steps": 6}))
        for name, (function, settings) in VERSIONS["standard"].items()
    }
    monkeypatch.setitem(VERSIONS, "standard", short)


@functools.cache
def attacked():
    """A model, images, and labels of which some are wrong from the start; change none of them.

    The images are multiples of 1/255, so that they can be given as bytes.
    """
    model = toys.classifier()
    images, _ = toys.batch(N)
    images = np.round(images * 255).astype(np.uint8).astype(np.float32) / 255
    labels = np.asarray(model(images)).argmax(axis=-1).astype(np.int32)
    labels[::8] = (labels[::8] + 1) % toys.CLASSES
    return model, images, labels


@functools.cache
def at_once(attack):
    found = attack(*attacked(), epsilon=EPSILON)
    found.flags.writeable = False
    return found


def dataset(*of, batch_size=5):
    return tf.data.Dataset.from_tensor_slices(of).batch(batch_size)


# Batches


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"square", "autoattack"}))
@pytest.mark.parametrize("batch_size", [1, 7, N - 1])
def test_batch_size_changes_nothing(name, batch_size):
    attack = ATTACKS[name]
    model, images, labels = attacked()
    found = attack(model, images, labels, epsilon=EPSILON, batch_size=batch_size)
    assert (at_once(attack) != images).any(axis=(1, 2, 3)).mean() > 0.2
    np.testing.assert_allclose(found, at_once(attack), atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_an_image_does_not_depend_on_those_behind_it(name):
    """Whether images leave the search early, or are not there at all."""
    model, images, labels = attacked()
    few = ATTACKS[name](model, images[:9], labels[:9], epsilon=EPSILON)
    np.testing.assert_allclose(few, at_once(ATTACKS[name])[:9], atol=1e-6)


def test_each_image_has_random_numbers_of_its_own():
    """Else all batches would start at the same points. Only one pixel has a gradient."""
    kernel = np.zeros((int(np.prod(toys.IMAGE_SHAPE)), 3), np.float32)
    kernel[0, 1] = 1
    images = np.full((6, *toys.IMAGE_SHAPE), 0.5, np.float32)
    labels = np.zeros(6, np.int32)
    model = toys.linear_classifier(kernel)
    found = attacks.pgd(model, images, labels, epsilon=0.3, steps=20, batch_size=2)
    for one, other in itertools.combinations(found, 2):
        assert (one != other).mean() > 0.9


@every_attack
def test_one_new_array_of_the_images_shape(attack):
    model, images, labels = attacked()
    before = images.copy()
    found = attack(model, images, labels, epsilon=0.0, batch_size=10)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    assert not np.shares_memory(found, images)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(images, before)


@every_attack
@pytest.mark.parametrize("batch_size", [0, -1, 2.5, None])
def test_bad_batch_sizes(attack, batch_size):
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
        attack(*attacked(), epsilon=EPSILON, batch_size=batch_size)


@pytest.mark.parametrize("name", ["fgsm", "autoattack"])
def test_progress_changes_nothing_and_leaves_standard_output_alone(name, capfd):
    of = functools.partial(ATTACKS[name], *attacked(), epsilon=EPSILON, batch_size=7)
    np.testing.assert_allclose(of(progress=True), of(), atol=1e-6)
    assert capfd.readouterr().out == ""


# Images and labels


@every_attack
def test_bytes_and_tensors_are_as_good_as_floats(attack):
    model, images, labels = attacked()
    in_bytes = np.uint8(np.round(images * 255))
    for given in (in_bytes, tf.constant(in_bytes), tf.constant(images), images.tolist()):
        found = attack(model, given, labels, epsilon=EPSILON)
        np.testing.assert_allclose(found, at_once(attack), atol=1e-6)


@every_attack
@pytest.mark.parametrize("of_dataset", [1, 5, N, 50])
def test_a_dataset_is_as_good_as_arrays(attack, of_dataset):
    model, images, labels = attacked()
    batches = dataset(images, labels, batch_size=of_dataset)
    found = attack(model, batches, epsilon=EPSILON, batch_size=7)
    assert found.shape == images.shape
    of_arrays = attack(model, images, labels, epsilon=EPSILON, batch_size=7)
    np.testing.assert_allclose(found, of_arrays, atol=1e-6)


def test_datasets_of_bytes_of_one_hot_labels_and_of_unknown_length():
    model, images, labels = attacked()
    in_bytes, one_hot = np.uint8(np.round(images * 255)), np.eye(toys.CLASSES)[labels]
    filtered = tf.data.Dataset.from_tensor_slices((in_bytes, one_hot)).filter(lambda *_: True)
    assert filtered.cardinality() == tf.data.UNKNOWN_CARDINALITY
    for batches in (dataset(in_bytes, one_hot), filtered.batch(4), dataset(images, labels)):
        found = attacks.pgd(model, batches, epsilon=EPSILON, steps=4, restarts=2)
        np.testing.assert_allclose(found, at_once(ATTACKS["pgd"]), atol=1e-6)


def test_a_dataset_is_read_once_and_batch_by_batch():
    model, images, labels = attacked()
    read = []

    def elements():
        for image, label in zip(images, labels):
            read.append(label)
            yield image, label

    spec = tf.TensorSpec(toys.IMAGE_SHAPE), tf.TensorSpec((), tf.int32)
    batches = tf.data.Dataset.from_generator(elements, output_signature=spec).batch(5)
    attacks.fgsm(model, batches, epsilon=EPSILON, batch_size=10)
    np.testing.assert_array_equal(read, labels)


@every_attack
def test_what_rounding_moves_out_of_0_to_1_is_clipped(attack):
    model, images, labels = attacked()
    ends = (images == 0) | (images == 1)
    assert ends.any()
    for dtype, beyond in ((np.float32, 9e-7), (np.float64, 1e-6)):
        moved = np.where(images == 1, 1 + beyond, np.where(images == 0, -beyond, images))
        moved = moved.astype(dtype)
        assert moved.max() > 1 and moved.min() < 0
        found = attack(model, moved, labels, epsilon=EPSILON)
        np.testing.assert_allclose(found, at_once(attack), atol=1e-6)
        assert found.min() >= 0 and found.max() <= 1
    for beyond in (2e-6, 0.01):
        for bad in (np.where(images == 1, 1 + beyond, images), np.where(images, images, -beyond)):
            with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
                attack(model, bad, labels, epsilon=EPSILON)


def refused(match, *given, **options):
    with pytest.raises(ValueError, match=match) as error:
        attacks.fgsm(attacked()[0], *given, **({"epsilon": EPSILON} | options))
    assert "\n" not in str(error.value)


def test_refused_arrays():
    _, images, labels = attacked()
    refused("labels are missing", images)
    refused("images are missing", None, labels)
    refused("images must be an array", iter(images), labels)
    refused(r"shape \(None, 6, 6, 2\).*Received: \(6, 6, 2\)", images[0], labels)
    refused(r"Received: \(33, 6, 5, 2\)", images[:, :, :5], labels)
    refused("differ in number. Received: 33 and 32", images, labels[:-1])
    refused("int64", (images * 255).astype(np.int64), labels)
    refused("at least one image", images[:0], labels[:0])


def test_what_is_bad_at_the_end_is_refused_before_anything_is_attacked():
    _, images, labels = attacked()
    bad = labels.copy()
    bad[-1] = toys.CLASSES
    seen = []

    class Counting(keras.Model):
        def call(self, images, training=False):
            seen.append(tf.executing_eagerly())
            return attacked()[0](images)

    model = Counting()
    model(images[:1])
    seen.clear()
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        attacks.fgsm(model, images, bad, epsilon=EPSILON, batch_size=4)
    assert all(seen)  # attacks are compiled, checks are not


def test_refused_datasets():
    _, images, labels = attacked()
    refused("labels must be left out", dataset(images, labels), labels)
    refused(r"of \(images, labels\)", dataset(images, labels, labels))
    refused(r"of \(images, labels\)", tf.data.Dataset.from_tensor_slices(images).batch(3))
    named = tf.data.Dataset.from_tensor_slices({"images": images, "labels": labels}).batch(3)
    refused(r"of \(images, labels\)", named)
    refused("of single images.*batch", tf.data.Dataset.from_tensor_slices((images, labels)))
    refused("never ends.*take", dataset(images, labels).repeat())
    refused("at least one image", dataset(images, labels).take(0))
    refused(r"\[0, 1\]", dataset(images * 255, labels))
    refused(r"0\.\.2", dataset(images, labels + 3))


def test_autoattack_keeps_no_state_of_a_dataset(tmp_path):
    model, images, labels = attacked()
    with pytest.raises(ValueError, match="state needs images and labels as arrays"):
        attacks.autoattack(model, dataset(images, labels), epsilon=EPSILON, state=tmp_path)


# Evaluation


def test_accuracies_do_not_depend_on_the_batch_size_nor_on_the_type_of_pixels():
    model, images, labels = attacked()
    listed = [Attack(name, EPSILON) for name in ("clean", "pgd3", "apgd_ce", "fab_t", "autoattack")]
    expected = [robustness_of(model, images, labels, listed, progress=False)]
    in_bytes = np.uint8(np.round(images * 255))
    for given, batch_size in ((images, 1), (images, 7), (in_bytes, 500)):
        found = [robustness_of(model, given, labels, listed, batch_size, progress=False)]
        for row in (*found[0], *expected[0]):
            row["seconds"] = 0
        assert found == expected


def test_parts_have_random_numbers_of_their_own():
    """And those of the first part are those of an attack on its images alone."""
    model, images, labels = attacked()
    many = np.tile(images[:1], (PART + 1, 1, 1, 1))
    of_many = np.tile(labels[:1], PART + 1)
    seeds = []

    class Recorded(Attack):
        def __call__(self, classifier, images, labels, **options):
            seeds.append((self.seed, len(images)))
            return super().__call__(classifier, images, labels, **options)

    evaluation.robustness(model, many, of_many, [Recorded("pgd1", EPSILON, seed=3)], progress=False)
    assert seeds == [(3, PART), (3 + PART, 1)]
