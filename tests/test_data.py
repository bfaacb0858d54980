import os
import pathlib
import socket

import numpy as np
import pytest
import tensorflow as tf

from jarn_tf import data
from jarn_tf.data import prepared


def numbered(n, shape=(4, 4, 1)):
    """Images that carry their index in their first pixel."""
    images = np.zeros((n, *shape), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return data.Split(images, np.arange(n, dtype=np.int32) % 3)


def run(split, batch_size, first_step, last_step, seed=0, augment=False):
    batches = data.training_batches(split, batch_size, seed, first_step, last_step, augment)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def indices(batches):
    return [np.rint(x[:, 0, 0, 0] * 255).astype(int).tolist() for x, _ in batches]


# Digits


def test_digits_has_the_documented_splits(digits):
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1294, 143, 360]
    assert digits.image_shape == (28, 28, 1)
    assert digits.classes == 10
    for split in (digits.train, digits.validation, digits.test):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert split.floats.dtype == np.float32
        assert split.floats.min() == 0
        assert 0.9 < split.floats.max() <= 1


def test_digits_are_stratified_and_disjoint_and_always_the_same(digits):
    parts = [digits.train, digits.validation, digits.test]
    everything = np.concatenate([s.labels for s in parts])
    expected = np.bincount(everything) * len(digits.test) / len(everything)
    assert np.abs(np.bincount(digits.test.labels) - expected).max() <= 1
    images = [image.tobytes() for s in parts for image in s.images]
    assert len(set(images)) == len(images) == 1797
    again = data.load("digits")
    for a, b in zip(parts, [again.train, again.validation, again.test]):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_a_part_of_a_dataset_is_its_beginning(digits):
    part = data.load("digits", train_examples=30, test_examples=7)
    assert [len(s) for s in (part.train, part.validation, part.test)] == [30, 7, 7]
    np.testing.assert_array_equal(part.train.images, digits.train.images[:30])
    np.testing.assert_array_equal(part.test.labels, digits.test.labels[:7])


# Batches


@pytest.mark.parametrize(("n", "batch_size"), [(20, 5), (23, 5), (20, 20)])
def test_each_epoch_is_another_permutation(n, batch_size):
    per_epoch = n // batch_size
    split = numbered(n)
    batches = run(split, batch_size, 0, 3 * per_epoch)
    assert len(batches) == 3 * per_epoch
    order = np.concatenate(indices(batches)).reshape(3, -1)
    for epoch in order:
        assert len(set(epoch)) == per_epoch * batch_size
        assert (epoch != np.sort(epoch)).any()
    assert (order[0] != order[1]).any() and (order[1] != order[2]).any()
    labels = np.concatenate([y for _, y in batches])
    np.testing.assert_array_equal(labels, split.labels[order.ravel()])


def test_a_permutation_moves_every_part_of_the_dataset():
    first = [i for batch in indices(run(numbered(200), 20, 0, 10)) for i in batch]
    assert np.abs(np.corrcoef(first, np.arange(200))[0, 1]) < 0.3


def test_the_order_depends_on_the_seed():
    assert indices(run(numbered(20), 5, 0, 4)) != indices(run(numbered(20), 5, 0, 4, seed=1))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("first_step", [1, 4, 6])
def test_a_run_can_start_at_any_step(augment, first_step):
    pixels = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), np.uint8)
    split = data.Split(pixels, np.arange(23, dtype=np.int32))
    whole = run(split, 5, 0, 10, augment=augment)
    tail = run(split, 5, first_step, 10, augment=augment)
    assert len(tail) == 10 - first_step
    for (images, labels), (expected_images, expected_labels) in zip(tail, whole[first_step:]):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def test_batches_give_every_example_once_in_order():
    split = numbered(23)
    batches = [(x.numpy(), y.numpy()) for x, y in data.batches(split, 10)]
    sizes = [len(y) for _, y in batches]
    assert len(sizes) == 3 and max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1  # no tiny last batch that starves a replica
    assert sum(indices(batches), []) == list(range(23))
    assert batches[0][0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), split.floats)


def test_a_batch_larger_than_the_dataset():
    with pytest.raises(ValueError, match="batch_size=24 and 23 training images"):
        data.training_batches(numbered(23), 24, 0, 0, 1)


# Workers and replicas


class Noted:
    """Images that count how many of them are read."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, 0

    def __getitem__(self, chosen):
        self.read += len(chosen)
        return self.images[chosen]


@pytest.mark.parametrize("augment", [False, True])
def test_each_worker_reads_its_rows_alone(augment):
    """Batches of 7 for two workers of two replicas each."""
    pixels = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), np.uint8)
    labels = np.arange(23, dtype=np.int32)
    pieces, read = [], []
    for worker in range(2):
        noted = Noted(pixels)
        context = tf.distribute.InputContext(2, worker, 4)
        pieces.append(
            list(data.training_batches(data.Split(noted, labels), 7, 0, 0, 5, augment, context))
        )
        read.append(noted.read)
    assert read == [5 * 4, 5 * 3]
    for step, (images, its_labels) in enumerate(
        run(data.Split(pixels, labels), 7, 0, 5, augment=augment)
    ):
        replicas = [piece for its in pieces for piece in its[2 * step : 2 * step + 2]]
        assert [len(y) for _, y in replicas] == [2, 2, 2, 1]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in replicas]), images)
        np.testing.assert_array_equal(np.concatenate([y for _, y in replicas]), its_labels)


def test_replicas_share_a_batch(two_replicas):
    split = numbered(23)
    batches = two_replicas.distribute_datasets_from_function(
        lambda worker: data.training_batches(split, 7, 0, 0, 4, worker=worker)
    )
    shares = [two_replicas.experimental_local_results(labels) for _, labels in batches]
    assert [list(map(len, of_step)) for of_step in shares] == [[4, 3]] * 4
    for of_step, (_, labels) in zip(shares, run(split, 7, 0, 4)):
        np.testing.assert_array_equal(np.concatenate(of_step), labels)


# Augmentation


def test_augmented_images_are_shifted_or_mirrored():
    pixels = np.random.default_rng(0).integers(1, 256, (64, 8, 8, 1), np.uint8)
    split = data.Split(pixels, np.arange(64, dtype=np.int32))
    ((augmented, labels),) = run(split, 64, 0, 1, augment=True)
    padded = np.pad(split.floats, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = []
    for image, label in zip(augmented, labels):
        candidates = {
            (y, x, mirrored): padded[label, y : y + 8, x : x + 8][:, :: -1 if mirrored else 1]
            for y in range(9)
            for x in range(9)
            for mirrored in (False, True)
        }
        found = [place for place, c in candidates.items() if np.abs(c - image).max() < 1e-6]
        assert len(found) == 1, label
        places += found
    rows, columns, mirrored = map(set, zip(*places))
    assert len(rows) > 6 and len(columns) > 6 and mirrored == {False, True}
    assert len(set(places)) > 40  # not one place for the whole batch


def test_augmentation_is_a_function_of_seed_and_step():
    split = data.Split(
        np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8), np.zeros(8, np.int32)
    )
    batches = run(split, 8, 0, 2, augment=True)
    again = run(split, 8, 0, 2, augment=True)
    for (a, _), (b, _) in zip(batches, again):
        np.testing.assert_array_equal(a, b)
    assert (np.sort(batches[0][0], axis=0) != np.sort(batches[1][0], axis=0)).any()


# TensorFlow Datasets


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10"])
def test_a_missing_dataset_without_a_network(name, tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_reachable", lambda host: False)
    with pytest.raises(FileNotFoundError) as error:
        data.load(name, str(tmp_path))
    message = str(error.value)
    for part in (str(tmp_path), "--data_dir", "--dataset=digits"):
        assert part in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_host_that_does_not_resolve_is_not_reachable(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(prepared, "_SECONDS_TO_FIND_NETWORK", 2)
    assert not prepared._reachable("host.invalid")


def test_a_host_that_answers_is_reachable(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect, here = socket.create_connection, server.getsockname()
        monkeypatch.setattr(socket, "create_connection", lambda _, **kw: connect(here, **kw))
        assert prepared._reachable("somewhere.example")


def test_svhn_without_its_extra_split(tmp_path):
    """TFDS's own builder, asked for its splits; only the download is played."""
    import tensorflow_datasets as tfds

    requested = []

    class Downloads:
        def download(self, urls):
            requested.extend(urls)
            return {split: pathlib.Path(split) for split in urls}

    builder = tfds.builder("svhn_cropped", data_dir=str(tmp_path))

    def splits():
        requested.clear()
        return [str(g.name) for g in builder._split_generators(Downloads())]

    assert splits() == requested == ["train", "test", "extra"]
    prepared._leave_out_extra(builder)
    assert splits() == requested == ["train", "test"]


def test_real_mnist():
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (pathlib.Path(folder) / "mnist").is_dir():
        pytest.skip("no prepared MNIST: TFDS_DATA_DIR names no folder that holds it")
    mnist = data.load("mnist")
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [54000, 6000, 10000]
    assert mnist.image_shape == (28, 28, 1)
    assert mnist.classes == 10
    images, labels = next(iter(data.batches(mnist.test, 500)))
    assert images.dtype == tf.float32 and labels.dtype == tf.int32
    assert images.numpy().min() == 0 and images.numpy().max() == 1
    assert set(labels.numpy()) == set(range(10))
