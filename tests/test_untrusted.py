"""Hostile files, a kind at a time: refused in one line, nothing run, nothing written elsewhere."""

import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import commands
import h5py
import keras
import numpy as np
import PIL.Image
import pytest
import toys
from absl import flags
from absl.testing import flagsaver

from jarn_tf import Defense, callbacks, data, files, resume
from jarn_tf.reproduction import reproducing, results
from jarn_tf.runs import evaluating, evaluations
from jarn_tf.runs.presets import preset
from jarn_tf.runs.saved import load_classifier
from jarn_tf.runs.workdir import Workdir, locked, refuse_unwritable
from launch import train

MARKER = pathlib.Path("marker")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of zipfile, of hostile names


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory of the test's own, where a payload that runs leaves its marker."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not MARKER.exists()


class Payload:
    """Its pickle runs code."""

    def __reduce__(self):
        return open, (str(MARKER), "w")


def add(archive, members):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


# Models


def classifier(*layers):
    flat = keras.layers.Flatten()
    return keras.Sequential([keras.Input((28, 28, 1)), flat, *layers, keras.layers.Dense(10)])


def with_lambda(path):
    classifier(keras.layers.Lambda(lambda x: open("marker", "w") and x)).save(path)  # noqa: SIM115
    assert MARKER.exists()  # so it does run where it is not refused
    MARKER.unlink()


def with_config(change):
    def make(path):
        classifier().save("good.keras")
        with zipfile.ZipFile("good.keras") as good, zipfile.ZipFile(path, "w") as file:
            config = change(good.read("config.json").decode())
            file.writestr("config.json", config, zipfile.ZIP_DEFLATED)
            for name in ("metadata.json", "model.weights.h5"):
                file.writestr(name, good.read(name))

    return make


def with_foreign_module(path):
    pathlib.Path("foreign.py").write_text("open('marker', 'w')\nclass Sequential: pass")
    with_config(lambda text: text.replace('"module": "keras"', '"module": "foreign"', 1))(path)


def with_weights_elsewhere(path):
    classifier().save(path)
    with h5py.File("other.h5", "w") as other, h5py.File(path, "a") as file:
        other["secret"] = np.ones((784, 10))
        name = file.visit(lambda name: name if name.endswith("kernel") else None)
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", "secret")


MODELS = {
    "code.keras": (with_lambda, "Lambda"),
    "code.h5": (with_lambda, "Lambda"),
    "module.keras": (with_foreign_module, "it needs the class Sequential"),
    "wide.keras": (
        with_config(lambda text: text.replace('"units": 10', '"units": 1000000000')),
        "would take 3,136,000,000,000 bytes",
    ),
    "bomb.keras": (with_config(lambda text: text + " " * 2**27), "would take 134,"),
    "nested.keras": (with_config(lambda text: "[" * 100_000), "recursion"),
    "link.h5": (with_weights_elsewhere, "ExternalLink"),
    "pipe.keras": (os.mkfifo, "no such file"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name, monkeypatch):
    monkeypatch.syspath_prepend(".")
    make, reason = MODELS[name]
    make(name)
    with pytest.raises(ValueError, match=reason) as error:
        load_classifier(name)
    assert f"{name} cannot be loaded" in str(error.value)
    assert len(str(error.value)) < 700 and "\n" not in str(error.value)


def test_members_of_a_model_stay_in_its_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "m.keras"
    classifier().save(path)
    add(path, {"../../marker": b"", str(tmp_path / "marker"): b"", "assets/../../marker": b""})
    load_classifier(path)
    assert not list(tmp_path.rglob("marker"))


# Folders of runs


def sparse(path):
    path.touch()
    os.truncate(path, 10**9)


JSON = {
    "nested": lambda path: path.write_text('{"config":' * 100_000),
    "no UTF-8": lambda path: path.write_bytes(b'{"config": {"dataset": "\xff"}}'),
    "large": sparse,
    "pipe": os.mkfifo,
    "digits": lambda path: path.write_text(f'{{"config": {{"epsilon": {"9" * 10_000}}}}}'),
    "not finite": lambda path: path.write_text('{"config": {"epsilon": NaN}, "steps": Infinity}'),
    "types": lambda path: path.write_text('{"config": {"epsilon": [], "dataset": {}}}'),
    "numbers": lambda path: path.write_text('{"config": {"epsilon": 0.1, "test_examples": -1}}'),
}


@pytest.mark.parametrize("content", JSON)
def test_json(tmp_path, content):
    """Each stands for the settings, the evaluations, the kept parts and the results."""
    for name in ("config", "evaluation", "identity", "table1"):
        JSON[content](tmp_path / f"{name}.json")
    run = Workdir(tmp_path)
    assert run.steps() == 0
    with pytest.raises(ValueError, match="another configuration|no readable run"):
        run.refuse_other_config(preset("digits", epochs=1))
    with pytest.raises(ValueError, match="no readable run|is not that of a run"):
        evaluating.finished_run(tmp_path)
    assert evaluations.read(tmp_path) == []
    (tmp_path / "0.npz").touch()
    with pytest.raises(ValueError, match="something else"):
        resume.Parts(tmp_path, {"model": "a"})
    with pytest.raises(ValueError, match="no readable result file"):
        results.read(reproducing.make_setting("table1", tmp_path, "digits", "smoke"))


@pytest.mark.parametrize("path", ["../elsewhere/ckpt-1", "/elsewhere/ckpt-1", "model", "a/ckpt-1"])
def test_checkpoints_elsewhere(tmp_path, path):
    """A checkpoint manager would delete what the list names once there are newer ones."""
    run = Workdir(tmp_path)
    run.checkpoints.mkdir()
    (run.checkpoints / "checkpoint").write_text(
        f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "{path}"'
    )
    model = Defense(toys.classifier())
    model.compile("adam")
    with pytest.raises(ValueError, match="none of its folder"):
        callbacks.Backup(run.checkpoints, model)


@pytest.mark.parametrize("content", [b"a,b\n1,2", b"epoch\n\xff", b"b,epoch\n" + b"9" * 10**6])
def test_a_history(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(ValueError, match="history.csv is no history"):
        callbacks.HistoryFile(tmp_path / "history.csv").on_epoch_end(1)


def test_links_out_of_a_run(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    (outside / "deeper").mkdir(parents=True)
    for path in (outside / "text", outside / "deeper" / "mine.npz"):
        path.write_text("mine")
    run.mkdir()
    for name in (".evaluation.partial.json", "evaluation.json", ".lock"):
        (run / name).symlink_to(outside / "text")
    files.write_json(run / "evaluation.json", {"mine": False})
    with locked(run):
        pass
    (run / "evaluation_state").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link"):
        resume.Parts(run / "evaluation_state", {})
    (run / "checkpoints").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link"):
        refuse_unwritable(run)
    assert {path.read_text() for path in outside.rglob("*") if path.is_file()} == {"mine"}
    assert files.read_json(run / "evaluation.json") == {"mine": False}


# Arrays


def array(shape, kind="|u1", content=b""):
    """The bytes of an .npy file that says what it likes."""
    return header(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}") + content


def header(text, version=2):
    return b"\x93NUMPY" + struct.pack("<BBI", version, 0, len(text)) + text.encode()


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([Payload()] * 40), allow_pickle=True)
    return file.getvalue()


def test_a_part_is_no_pickle_no_bomb_and_of_the_arrays_expected(tmp_path, capsys):
    files.write_json(tmp_path / "identity.json", {})
    add(tmp_path / "0.npz", {"x.npy": pickled()})
    (tmp_path / "1.npz").write_bytes(pickle.dumps(Payload()))
    add(tmp_path / "2.npz", {"x.npy": array((10**12,))})
    add(tmp_path / "3.npz", {"x.npy": array((10**8,), content=bytes(10**8))})
    os.mkfifo(tmp_path / "4.npz")
    np.savez(tmp_path / "5.npz", y=np.ones(1))
    np.savez(tmp_path / "6.npz", x=np.ones(2))
    np.savez(tmp_path / "7.npz", x=np.ones(1, "U1"))
    parts = resume.Parts(tmp_path, {})
    for number in range(8):
        kinds = {"x": ((1,), "float64")}
        part = resume.Part(str(number), kinds, lambda: {"x": np.ones(1)})
        assert parts.part(part)["x"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("computing it again.") for line in lines] == 8 * [True]


def archive(path, **changed):
    """A dataset of 40 and 8 images, but for the members that are given as bytes."""
    arrays = {
        "x_train": np.zeros((40, 5, 5, 1), np.uint8), "y_train": np.arange(40) % 4,
        "x_test": np.zeros((8, 5, 5, 1), np.uint8), "y_test": np.arange(8) % 4,
    }  # fmt: skip
    np.savez(path, **{name: array for name, array in arrays.items() if name not in changed})
    add(path, {f"{name}.npy": content for name, content in changed.items()})


ARCHIVES = {
    "pickled": ({"y_train": pickled()}, "array of numbers"),
    "a pickle": ({"x_train": pickle.dumps(Payload())}, "no NumPy array"),
    "code": ({"x_train": header("open('marker', 'w')")}, "no NumPy array"),
    "many labels": ({"y_train": array((10**12,), "<i8")}, "at most 256 MiB"),
    "many images": ({"x_train": array((10**12, 5, 5, 1))}, "10{12}.*and 40 labels"),
    "below 0": ({"x_train": array((40, -5, -5, 1))}, "must be images"),
    "of nothing": ({"x_train": array((40, 5, 5, 1), "|V0")}, "array of numbers"),
    "no bytes": ({"x_train": array((40, 5, 5, 1))}, "x_train ends early"),
    "times": ({"y_train": array((40,), "<m8[s]", bytes(320))}, "class numbers"),
    "no end": ({"x_train": header("(" * 9_000)}, "damaged"),
    "a long header": ({"x_train": header(" " * 10**6, version=3)}, "no NumPy array"),
    "a longer header": ({"x_train": b"\x93NUMPY\x03\0\xff\xff\xff\xff{}"}, "no NumPy array"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name):
    changed, reason = ARCHIVES[name]
    archive("a.npz", **changed)
    with pytest.raises(ValueError, match=reason) as error:
        data.load("npz:a.npz")
    assert "a.npz" in str(error.value)


def test_images_larger_than_memory_and_disk():
    changed = {f"x_{part}": array((n, 10**6, 10**6, 1)) for part, n in (("train", 40), ("test", 8))}
    archive("a.npz", **changed)
    with pytest.raises(OSError, match="The images take"):
        data.load("npz:a.npz")


def test_an_archive_takes_the_memory_of_what_it_declares():
    archive("a.npz", y_train=array((40,), "|u1", bytes(range(4)) * 10 + bytes(2**27)))
    add("a.npz", {"../marker": b""})
    tracemalloc.start()
    assert data.load("npz:a.npz").classes == 4
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("offset", [6, 8])
def test_an_encrypted_or_strangely_packed_archive(offset):
    """Flags stand at byte 6 of a member's header, the method at 8; in the directory 2 later."""
    archive("a.npz")
    content = pathlib.Path("a.npz").read_bytes()
    for start, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        pieces = content.split(start)
        at = offset + shift - 4
        content = start.join([pieces[0], *(p[:at] + b"\x61" + p[at + 1 :] for p in pieces[1:])])
    pathlib.Path("a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="no NumPy archive, or damaged"):
        data.load("npz:a.npz")


# Pictures


def png(width, height, pixels=b""):
    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content
            + struct.pack(">I", zlib.crc32(name + content))
        )  # fmt: skip

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    picture = [(b"IHDR", size), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in picture)


@pytest.fixture
def pictures(tmp_path):
    """Twenty pictures, a link to an ordinary one, and what is no picture; the latter's names."""
    for name in "ab":
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(10):
            PIL.Image.new("RGB", (12, 12)).save(tmp_path / "in" / name / f"{number}.png")
    PIL.Image.new("RGB", (12, 12)).save(tmp_path / "elsewhere.png")
    folder = tmp_path / "in" / "a"
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "00_bomb.png").write_bytes(png(60_000, 60_000, bytes(2**20)))
    (folder / "01_large.png").write_bytes(png(12_000, 12_000, bytes(2**20)))
    (folder / "02_text.png").write_text("no picture")
    (folder / "03_wide.gif").write_bytes(b"GIF89a" + b"\xff\xff" * 2 + bytes(20))
    os.mkfifo(folder / "04_pipe.png")
    (folder / "05_zero.png").symlink_to("/dev/zero")
    (folder / "06_none.png").symlink_to(tmp_path / "none")
    (folder / "round").symlink_to(folder)
    return [path.name for path in folder.iterdir() if path.name.startswith("0")]


@pytest.mark.parametrize("image_size", [None, 8])
def test_pictures(tmp_path, pictures, capsys, image_size):
    found = data.load(f"folder:{tmp_path / 'in'}", image_size=image_size)
    assert sum(map(len, (found.train, found.validation, found.test))) == 21
    said = capsys.readouterr().err
    assert f"Left out {len(pictures) - 1} of 28" in said and len(said.splitlines()) == 1


def test_pictures_of_another_size_are_refused_before_they_take_memory(tmp_path, pictures):
    large = png(9_000, 9_000, bytes(9_000 * 27_001))
    (tmp_path / "in" / "b" / "00.png").write_bytes(large)
    tracemalloc.start()
    with pytest.raises(ValueError, match="9000x9000 pixels"):
        data.load(f"folder:{tmp_path / 'in'}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25


# The commands


def test_what_the_commands_say(tmp_path):
    with_lambda("code.keras")
    archive("a.npz", y_train=pickled())
    JSON["nested"](tmp_path / "config.json")
    classifier().save("classifier.keras")
    good = ["--dataset=digits", f"--output={tmp_path / 'out'}"]
    calls = {
        "model": [f"--model={tmp_path / 'code.keras'}", *good],
        "dataset": [
            f"--model={tmp_path / 'classifier.keras'}",
            f"--dataset=npz:{tmp_path / 'a.npz'}",
            good[1],
        ],
        "workdir": [f"--workdir={tmp_path}"],
        "name": ["--model=\x1b[31m\n.keras", *good],
    }
    found = commands.in_one_process("evaluate", calls)
    said = {name: stopped for name, (_, stopped) in found.items()}
    for call, reason in {"model": "Lambda", "dataset": "numbers", "workdir": "deeply"}.items():
        commands.assert_one_line(said[call], "Error: ", reason)
    assert said["name"].isprintable()
    for flag, reason in (("--init_from=code.keras", "Lambda"), ("--dataset=npz:a.npz", "numbers")):
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
            flags.FLAGS(["train", flag, f"--workdir={tmp_path / 'out'}"])
            train.main(["train"])
        commands.assert_one_line(stopped.value.code, "Error: ", reason)
    assert not (tmp_path / "out").exists()
