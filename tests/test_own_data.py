"""Images of one's own: folders of pictures, NumPy archives, other sets of TensorFlow Datasets."""

import shutil
import tracemalloc

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jarn_tf import data
from jarn_tf.data import store
from jarn_tf.runs.presets import preset

CLASSES = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def draw(folder, count=10, size=(12, 12), ending="png"):
    """A folder a class; picture number i of a class is i in its darkest channel."""
    for name, colour in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.maximum(np.full((*size, 3), colour), number).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{number:02}.{ending}")
    return folder


def everything(dataset):
    return [dataset.train, dataset.validation, dataset.test]


# Folders


def test_a_folder_of_pictures_has_the_labels_that_keras_gives(tmp_path):
    draw(tmp_path)
    loaded = data.load(f"folder:{tmp_path}")
    images = np.concatenate([split.images for split in everything(loaded)])
    labels = np.concatenate([split.labels for split in everything(loaded)])
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(12, 12), batch_size=30, shuffle=False, verbose=False
    )
    their_images, their_labels = next(iter(theirs.as_numpy_iterator()))

    def pairs(images, labels):
        return {
            (image.astype(np.uint8).tobytes(), int(label)) for image, label in zip(images, labels)
        }

    assert len(pairs(images, labels)) == 30
    assert pairs(images, labels) == pairs(their_images, their_labels)
    assert loaded.classes == 3 and loaded.image_shape == (12, 12, 3)
    assert images.dtype == np.uint8 and labels.dtype == np.int32


@pytest.mark.parametrize("coloured", [0, 1])
def test_pictures_that_are_all_grey_have_one_channel(tmp_path, coloured):
    draw(tmp_path)
    paths = sorted(tmp_path.rglob("*.png"))
    for path in paths[coloured:]:
        PIL.Image.open(path).convert("L").save(path)
    (tmp_path / "red" / "broken.png").write_bytes(b"no picture")
    loaded = data.load(f"folder:{tmp_path}")
    assert loaded.image_shape == (12, 12, 3 if coloured else 1)
    found = [image.tobytes() for split in everything(loaded) for image in split.images]
    mode = "RGB" if coloured else "L"
    assert sorted(found) == sorted(PIL.Image.open(p).convert(mode).tobytes() for p in paths)
    assert data.load(f"folder:{tmp_path}", image_size=8).image_shape[2] == (3 if coloured else 1)


def test_a_folder_is_split_by_class_and_always_the_same(tmp_path):
    draw(tmp_path, 20)
    loaded, again = (data.load(f"folder:{tmp_path}") for _ in range(2))
    assert [len(split) for split in everything(loaded)] == [44, 4, 12]
    assert np.bincount(loaded.test.labels).tolist() == [4, 4, 4]
    assert len(set(loaded.train.labels[:8])) > 1  # not sorted
    for split, same in zip(everything(loaded), everything(again)):
        np.testing.assert_array_equal(split.images, same.images)
        np.testing.assert_array_equal(split.labels, same.labels)


def test_a_folder_with_train_and_test(tmp_path):
    draw(tmp_path / "train", 10)
    draw(tmp_path / "test", 2, ending="tiff")
    loaded = data.load(f"folder:{tmp_path}")
    assert [len(split) for split in everything(loaded)] == [27, 3, 6]
    assert loaded.test.images.min(axis=(1, 2, 3)).max() == 1  # pictures 0 and 1 of each class


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (20, 20)])
def test_the_middle_square_of_a_picture_is_scaled(tmp_path, size):
    """White pictures with a black middle square that is half as wide as the square taken."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(15):
            height, width = size
            side = min(size) // 4
            pixels = np.full((height, width, 3), 255, np.uint8)
            pixels[
                height // 2 - side : height // 2 + side, width // 2 - side : width // 2 + side
            ] = 0
            PIL.Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    image = data.load(f"folder:{tmp_path}", image_size=10).train.images[0]
    assert image.shape == (10, 10, 3)
    assert image[4:6, 4:6].max() == 0 and image[:2].min() == 255 and image[:, -2:].min() == 255
    assert abs((image < 128).mean() - 0.25) < 0.12


def test_broken_files_are_named_and_left_out(tmp_path, capsys):
    draw(tmp_path)
    (tmp_path / "red" / "00.png").write_bytes(b"no picture")
    whole = (tmp_path / "blue" / "03.png").read_bytes()
    (tmp_path / "blue" / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "red" / "notes.txt").write_text("no picture either, and not meant to be one")
    loaded = data.load(f"folder:{tmp_path}")
    assert sum(map(len, everything(loaded))) == 28
    printed = capsys.readouterr().err
    assert "2 of 30" in printed and "00.png" in printed and "03.png" in printed
    assert "notes" not in printed


def test_pictures_of_more_than_8_bits_are_left_out(tmp_path, capsys):
    draw(tmp_path)
    deep = np.arange(144, dtype=np.uint16).reshape(12, 12) * 400
    PIL.Image.fromarray(deep).save(tmp_path / "red" / "deep.png")
    assert sum(map(len, everything(data.load(f"folder:{tmp_path}")))) == 30
    assert "deep.png" in capsys.readouterr().err


def test_a_class_of_broken_pictures(tmp_path):
    draw(tmp_path, 20)
    for path in (tmp_path / "red").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="class of which no training picture can be read"):
        data.load(f"folder:{tmp_path}")


def test_other_names_of_the_test_pictures(tmp_path, capsys):
    draw(tmp_path / "Train", 10)
    draw(tmp_path / "val", 2)
    loaded = data.load(f"folder:{tmp_path}")
    assert [len(split) for split in everything(loaded)] == [27, 3, 6]
    draw(tmp_path / "test", 3)
    assert len(data.load(f"folder:{tmp_path}").test) == 9
    assert f"Not used: {tmp_path / 'val'}" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(ValueError, match=r"must have test \(or val\) beside train"):
        data.load(f"folder:{tmp_path}")


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    draw(tmp_path)
    PIL.Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "red" / "small.png")
    with pytest.raises(ValueError, match="--image_size has to be given") as error:
        data.load(f"folder:{tmp_path}")
    assert "12x12" in str(error.value) and "9x7" in str(error.value)
    assert data.load(f"folder:{tmp_path}", image_size=8).image_shape == (8, 8, 3)


def test_folders_that_hold_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        data.load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match="for each class, two or more. Received: none"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="must have pictures"):
        data.load(f"folder:{tmp_path}")
    draw(tmp_path / "x" / "train")
    draw(tmp_path / "x" / "test")
    shutil.rmtree(tmp_path / "x" / "test" / "red")
    with pytest.raises(ValueError, match="must have the same classes"):
        data.load(f"folder:{tmp_path / 'x'}")


def test_too_few_pictures(tmp_path):
    draw(tmp_path, 4)
    with pytest.raises(ValueError, match="10 training images and a test image at least"):
        data.load(f"folder:{tmp_path}")


# Archives


def archive(path, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (600, 5, 4, 3), np.uint8),
        "y_train": np.sort(np.arange(600) % 4),
        "x_test": rng.integers(0, 256, (8, 5, 4, 3), np.uint8),
        "y_test": np.arange(8) % 4,
    } | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
def test_an_archive_has_its_images(tmp_path, saved):
    arrays = archive(tmp_path / "a.npz")
    saved(tmp_path / "a.npz", **arrays)
    loaded = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert [len(split) for split in everything(loaded)] == [540, 60, 8]
    assert loaded.classes == 4 and loaded.image_shape == (5, 4, 3)
    assert set(loaded.validation.labels) == {0, 1, 2, 3}  # though the archive is sorted by class
    for part, splits in (("train", everything(loaded)[:2]), ("test", [loaded.test])):
        expected = zip(arrays[f"x_{part}"], arrays[f"y_{part}"])
        found = [pair for split in splits for pair in zip(split.images, split.labels)]
        assert sorted((i.tobytes(), int(y)) for i, y in found) == sorted(
            (i.tobytes(), int(y)) for i, y in expected
        )


def test_labels_that_count_from_1(tmp_path, capsys):
    labels = np.arange(600) % 4 + 1
    archive(tmp_path / "a.npz", y_train=labels, y_test=labels[:8])
    assert data.load(f"npz:{tmp_path / 'a.npz'}").classes == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 of 5 classes have no training image, the first is 0" in line


def test_forms_of_images_and_labels(tmp_path):
    arrays = archive(tmp_path / "a.npz")
    expected = data.load(f"npz:{tmp_path / 'a.npz'}")
    for name, changed in {
        "floats": {"x_train": arrays["x_train"] / np.float32(255)},
        "wide": {"x_train": arrays["x_train"].astype(np.int64)},
        "columns": {"y_train": arrays["y_train"][:, None], "y_test": arrays["y_test"][:, None]},
        "one-hot": {"y_train": np.eye(4)[arrays["y_train"]], "y_test": np.eye(4)[arrays["y_test"]]},
    }.items():
        archive(tmp_path / "b.npz", **changed)
        for split, same in zip(
            everything(data.load(f"npz:{tmp_path / 'b.npz'}")), everything(expected)
        ):
            np.testing.assert_array_equal(split.images, same.images, name)
            np.testing.assert_array_equal(split.labels, same.labels, name)


def test_grey_images_without_a_channel_axis(tmp_path):
    grey = np.arange(40 * 6, dtype=np.uint8).reshape(40, 2, 3)
    archive(tmp_path / "a.npz", x_train=grey, y_train=np.arange(40) % 4, x_test=grey[:8])
    assert data.load(f"npz:{tmp_path / 'a.npz'}").image_shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"y_test": None},
            "must hold x_train, y_train, x_test, y_test. Received: x_train, y_train",
        ),
        (
            {"x_train": np.full((600, 5, 4, 3), 254.5)},
            "floats in .0, 1.. Received: float64 from 254.5",
        ),
        ({"x_train": np.zeros((599, 5, 4, 3), np.uint8)}, "599, 5, 4, 3.*600 labels"),
        ({"x_train": np.zeros((600, 5), np.uint8)}, "must be images"),
        ({"x_test": np.zeros((8, 5, 5, 3), np.uint8)}, "images of one shape"),
        ({"y_train": np.full(600, -1)}, "class numbers from 0"),
        ({"y_train": np.full(600, 0.5)}, "class numbers from 0"),
        ({"y_train": np.array(["cat"] * 600)}, "class numbers from 0"),
        ({"y_train": np.array([None] * 600)}, "array of numbers"),
        ({"y_train": np.zeros((600, 4))}, "class numbers from 0"),
        ({"y_train": np.full((600, 4), 0.25)}, "class numbers from 0"),
        ({"y_train": np.full(600, np.inf)}, "class numbers from 0"),
        ({"y_train": np.int32(3)}, "class numbers from 0"),
        ({"y_test": np.zeros(0, int), "x_test": np.zeros((0, 5, 4, 3))}, "class numbers from 0"),
        ({"y_train": np.zeros(600, int), "y_test": np.zeros(8, int)}, "two classes or more"),
        (
            {"x_train": np.zeros((600, 3, 5, 9)), "x_test": np.zeros((8, 3, 5, 9))},
            "grey or in colours, which come last",
        ),
        ({"x_train": np.full((600, 5, 4, 3), np.nan, np.float32)}, "from nan to nan"),
    ],
)
def test_archives_that_hold_no_dataset(tmp_path, changed, message):
    archive(tmp_path / "a.npz", **changed)
    with pytest.raises(ValueError, match=message) as error:
        data.load(f"npz:{tmp_path / 'a.npz'}")
    assert "\n" not in str(error.value)


def test_damaged_archives(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        data.load(f"npz:{tmp_path / 'absent.npz'}")
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no NumPy archive, or damaged"):
        data.load(f"npz:{tmp_path / 'a.npz'}")
    archive(tmp_path / "b.npz")
    for saved in (np.savez, np.savez_compressed):
        saved(tmp_path / "b.npz", **archive(tmp_path / "a.npz"))
        bytes_ = bytearray((tmp_path / "b.npz").read_bytes())
        bytes_[5000] ^= 255
        (tmp_path / "b.npz").write_bytes(bytes_)
        with pytest.raises(ValueError, match="damaged"):
            data.load(f"npz:{tmp_path / 'b.npz'}")


# TensorFlow Datasets


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Thirty pictures of two sizes, without a test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(30):
            pixels = np.full((8 + number % 2, 8, 3), number, np.uint8)
            yield number, {"image": pixels, "label": number % 3}


class TinyTexts(tfds.core.GeneratorBasedBuilder):
    """No images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"number": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {}

    def _generate_examples(self):
        yield from ()


@pytest.fixture(scope="module")
def tiny_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.builder("tiny_pictures", data_dir=folder).download_and_prepare()
    return folder


def test_a_set_of_tensorflow_datasets(tiny_pictures):
    loaded = data.load("tfds:tiny_pictures", str(tiny_pictures), image_size=4)
    assert [len(split) for split in everything(loaded)] == [22, 2, 6]
    assert loaded.classes == 3 and loaded.image_shape == (4, 4, 3)
    images = np.concatenate([split.images for split in everything(loaded)])
    labels = np.concatenate([split.labels for split in everything(loaded)])
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 3, labels)
    assert sorted(images[:, 3, 3, 2]) == list(range(30))


def test_sets_that_are_no_image_classification(tiny_pictures, monkeypatch):
    with pytest.raises(ValueError, match="several sizes. Give --image_size"):
        data.load("tfds:tiny_pictures", str(tiny_pictures))
    with pytest.raises(ValueError, match="knows no dataset 'no_such_set'"):
        data.load("tfds:no_such_set", str(tiny_pictures))
    with pytest.raises(ValueError, match="no image classification set"):
        data.load("tfds:tiny_texts", str(tiny_pictures))


def test_a_damaged_set(tiny_pictures, tmp_path):
    shutil.copytree(tiny_pictures, tmp_path, dirs_exist_ok=True)
    (record,) = tmp_path.rglob("*.tfrecord*")
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read") as error:
        data.load("tfds:tiny_pictures", str(tmp_path), image_size=4)
    assert "Delete that folder" in str(error.value) and "\n" not in str(error.value)
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace('"30"', '"40"'))
    record.write_bytes(whole)
    with pytest.raises(ValueError, match="32 elements but contained only 30"):
        data.load("tfds:tiny_pictures", str(tmp_path), image_size=4)


# The test split alone


def test_the_test_split_can_be_read_alone(tiny_pictures, tmp_path):
    draw(tmp_path / "pictures", 20)
    archive(tmp_path / "a.npz")
    for name, options in {
        f"folder:{tmp_path / 'pictures'}": {},
        f"npz:{tmp_path / 'a.npz'}": {},
        "tfds:tiny_pictures": {"data_dir": str(tiny_pictures), "image_size": 4},
    }.items():
        alone, whole = (data.load(name, **options, test_only=only) for only in (True, False))
        assert (len(alone.train), len(alone.validation)) == (0, 0)
        assert (alone.classes, alone.image_shape) == (whole.classes, whole.image_shape)
        assert alone.test.digest == whole.test.digest


def test_training_pictures_are_left_unread(tmp_path, capsys):
    draw(tmp_path / "train")
    draw(tmp_path / "test")
    for path in (tmp_path / "train" / "red").iterdir():
        path.write_bytes(b"no picture")
    assert len(data.load(f"folder:{tmp_path}", test_only=True).test) == 30
    assert not capsys.readouterr().err


# Memory and disk


def test_streamed_images_are_those_in_memory_in_the_same_batches(tmp_path, capsys):
    archive(tmp_path / "a.npz")
    name = f"npz:{tmp_path / 'a.npz'}"
    in_memory, streamed = data.load(name), data.load(name, memory_share=0.0)
    assert "streamed from" in capsys.readouterr().err
    assert isinstance(streamed.train.images, np.memmap)
    assert not isinstance(in_memory.train.images, np.memmap)
    for first in (0, 7):
        batches = [
            list(data.training_batches(dataset.train, 50, 3, first, 21, True).as_numpy_iterator())
            for dataset in (in_memory, streamed)
        ]
        assert len(batches[0]) == 21 - first
        for (images, labels), (same, same_labels) in zip(*batches):
            np.testing.assert_array_equal(images, same)
            np.testing.assert_array_equal(labels, same_labels)


def test_a_digest_is_of_every_image_and_label_wherever_they_lie(tmp_path):
    arrays = archive(tmp_path / "a.npz")
    name = f"npz:{tmp_path / 'a.npz'}"
    digests = {data.load(name, memory_share=share).digest for share in (0.0, 1.0)}
    assert len(digests) == 1
    for part, values in arrays.items():
        changed = values.copy()
        changed.flat[-1] ^= 1
        archive(tmp_path / "a.npz", **{part: changed})
        digests.add(data.load(name).digest)
    assert len(digests) == 5


def test_a_digest_of_images_on_disk_takes_no_memory(tmp_path):
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(2048, 128, 128, 1))
    tracemalloc.start()
    assert data.Split(images, np.zeros(2048, np.int32)).digest
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 100


def test_a_disk_without_room(monkeypatch):
    room = shutil.disk_usage("/")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: room._replace(free=999))
    with pytest.raises(OSError, match="TMPDIR"):
        store.Store(1000, memory_share=0.0)


def test_arguments(tmp_path):
    for name in ("folders:x", "folder:", "imagenet", "npz"):
        with pytest.raises(ValueError, match="dataset must be one of digits.*folder:DIR"):
            data.load(name)
    for settings_or_images in (preset, data.load):
        with pytest.raises(ValueError, match="image_size is for datasets folder:DIR and tfds:NAME"):
            settings_or_images("npz:x", image_size=4)
    with pytest.raises(ValueError, match="image_size must be a whole number"):
        data.load(f"folder:{tmp_path}", image_size=0)
    with pytest.raises(ValueError, match="memory_share must be a number"):
        data.load("digits", memory_share=2.0)
