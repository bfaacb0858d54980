"""What a dry run measures, and what it makes of that."""

import os
import pathlib
import sys
import types

import commands
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import toys

from jarn_tf import JARN
from jarn_tf.data import prepared
from jarn_tf.reproduction import dry_run, reproducing
from jarn_tf.runs.presets import preset

HOUR = 3600


def make(output, name="table1", **options):
    defaults = {"dataset": "digits", "scale": "smoke", "rows": ("standard", "jarn")}
    return reproducing.make_setting(name, output, **{**defaults, **options})


def cells(text):
    """Model to column to what a table in Markdown says of it."""
    lines = [line.strip()[1:-1].split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0]: dict(zip(head, row)) for row in rows}


def weights_of_wide_resnet(units, width):
    """Kernels, scales and shifts of the batch normalisations, the dense layer."""
    count, before = 9 * 3 * 16, 16
    for channels in (16 * width, 32 * width, 64 * width):
        for _ in range(units):
            count += 9 * before * channels + 9 * channels * channels + 2 * before + 2 * channels
            before = channels
    return count + 2 * before + 10 * before + 10


def test_the_command_measures_without_a_dataset_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    done = commands.launch(
        "reproduce", "--experiment=table2", "--scale=smoke", "--rows=standard", "--dry_run=3",
        "--dry_run_batch=2", f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())
    (row,) = cells(done.stdout).values()
    assert row.pop("model") == "Standard" and row.pop("step in JARN's phase, s") == ""
    assert all(float(value) > 0 for value in row.values())
    assert round(weights_of_wide_resnet(5, 10) / 1e6, 1) == 45.9  # the full one, as is known
    assert row["weights, millions"] == f"{weights_of_wide_resnet(1, 1) / 1e6:.3g}"
    assert "batches of 2 and 8" in done.stdout


# Measuring


@pytest.fixture
def built(monkeypatch):
    """Models of tiny networks that `measure` has built; memory grows by a byte an image."""
    models = []

    def build_model(config, image_shape, classes, total_steps):
        model = JARN(
            toys.classifier(),
            toys.adaptor(),
            toys.discriminator(),
            discriminator_interval=config.discriminator_interval,
            start_step=round(config.jarn_start_fraction * total_steps),
        )
        model.compile("sgd", "sgd", "sgd")
        models.append(model)
        return model

    monkeypatch.setattr(dry_run, "build_model", build_model)
    monkeypatch.setattr(dry_run, "IMAGES", {"digits": (toys.IMAGE_SHAPE, 100)})
    monkeypatch.setattr(dry_run, "CLASSES", toys.CLASSES)
    monkeypatch.setattr(dry_run, "_peak_memory", lambda: 1000 + len(models))
    return models


def test_measure_times_each_kind_after_a_step_that_compiles_it(built, monkeypatch):
    run = preset(
        batch_size=10, epochs=4, jarn_start_fraction=0.75, discriminator_interval=5, strategy="none"
    )
    durations = iter([100, 1, 5, 3, 100, 30, 20, 70, 100, 9, 2, 8, 500, 500, 500])
    clock = types.SimpleNamespace(now=0)

    def perf_counter():
        # Called at the beginning of each `fit`, and at the end of each step.
        if clock.now in clock.begins:
            clock.begins.remove(clock.now)
        else:
            clock.now += next(durations)
        return clock.now

    clock.begins = [0, 100 + 9 + 100 + 120 + 100 + 19]
    monkeypatch.setattr(dry_run, "time", types.SimpleNamespace(perf_counter=perf_counter))
    found = dry_run.measure(run, 9, [4, 8])
    assert found.steps == {
        JARN.CLASSIFIER: 30, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 2, JARN.ADVERSARIAL: 8,
    }  # fmt: skip
    assert found.seconds == {
        JARN.CLASSIFIER: 3, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 30, JARN.ADVERSARIAL: 8,
    }  # fmt: skip
    assert list(found.memory) == [4, 8]
    (model,) = built
    # 4 of each kind, and 1 on the larger batch.
    taken = {name: int(getattr(model, f"{name}_optimizer").iterations) for name in
             ("classifier", "adaptor", "discriminator")}  # fmt: skip
    assert taken == {"classifier": 15, "adaptor": 10, "discriminator": 5}
    networks = (toys.classifier(), toys.adaptor(), toys.discriminator())
    assert found.weights == sum(network.count_params() for network in networks)


def test_one_step_is_one_of_each_kind(built):
    run = preset(batch_size=50, epochs=8, discriminator_interval=3, strategy="none")
    found = dry_run.measure(run, 1, [2])
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert int(built[0].classifier_optimizer.iterations) == 2 * len(found.steps) == 6


def test_tensors_that_do_not_fit_are_a_memory_error(built, monkeypatch):
    def exhausted(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(dry_run, "_seconds", exhausted)
    with pytest.raises(MemoryError, match="out of memory"):
        dry_run.measure(preset(strategy="none"), 1, [2])


def test_a_process_that_the_system_ends_is_a_memory_error(monkeypatch):
    monkeypatch.setattr(dry_run, "measure", os.execl)  # puts another program in its place
    with pytest.raises(MemoryError, match="ended by the system"):
        dry_run.in_a_process(sys.executable, "python", "--version")


def test_memory_is_that_of_the_device_with_most(monkeypatch):
    peaks = {"GPU:0": 5, "GPU:1": 7, "CPU:0": 9}
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda kind: [types.SimpleNamespace(name=name) for name in peaks if kind in name],
    )
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda name: {"peak": peaks[name]}
    )
    assert dry_run._peak_memory() == 7


@pytest.mark.parametrize("name", dry_run.IMAGES)
def test_images_are_as_those_of_the_dataset(name, digits):
    if name == "digits":
        shape, examples, classes = digits.image_shape, len(digits.train), digits.classes
    else:
        folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "nowhere"))
        tfds_name, _ = prepared._TFDS[name]
        if not (folder / tfds_name).is_dir():
            pytest.skip(f"no prepared {name}: TFDS_DATA_DIR names no folder that holds it")
        info = tfds.builder(tfds_name).info
        shape, examples = info.features["image"].shape, info.splits["train"].num_examples
        examples, classes = examples - examples // 10, info.features["label"].num_classes
    assert dry_run.IMAGES[name] == (shape, examples)
    assert classes == dry_run.CLASSES


# Estimating


@pytest.fixture
def played(monkeypatch):
    """What rows are said to have taken, in place of a process; the calls with their batch sizes."""
    calls = []

    def measured(config, steps, batch_sizes):
        calls.append((config.defense, steps, batch_sizes))
        if config.defense == "pgd_at":
            raise MemoryError("out of memory")
        kinds = {JARN.CLASSIFIER: 10.0}
        steps = dict.fromkeys(kinds, 200)
        if config.regularizer == "jarn":
            kinds |= {JARN.ADVERSARIAL_AND_DISCRIMINATOR: 70.0, JARN.ADVERSARIAL: 30.0}
            steps = dict(zip(kinds, (150, 5, 45)))
        memory = {size: 1_000_000_000 * (2 + size) for size in batch_sizes}
        return dry_run.Measured("an abacus", 45_900_000, steps, kinds, memory)

    monkeypatch.setattr(dry_run, "in_a_process", measured)
    return calls


def test_the_preset_s_batch_is_measured_as_it_is(played, tmp_path):
    text = dry_run.estimate(make(tmp_path), 20)
    assert played == [("standard", 20, [32]), ("jarn", 20, [32])]
    found = cells(text)
    assert found["Standard"] == {
        "model": "Standard", "weights, millions": "45.9", "step, s": "10",
        "step in JARN's phase, s": "", "images/s": "3.2", "run, h": f"{2000 / HOUR:.3g}",
        "memory, GB": "34",
    }  # fmt: skip
    jarn = 150 * 10 + 5 * 70 + 45 * 30
    assert found["JARN"]["step in JARN's phase, s"] == f"{(5 * 70 + 45 * 30) / 50:.3g}"
    assert float(found["JARN"]["run, h"]) == pytest.approx(jarn / HOUR, rel=0.005)
    assert float(found["JARN"]["images/s"]) == pytest.approx(200 * 32 / jarn, rel=0.005)
    assert "abacus" in text and "xtrapolated" not in text
    assert f"{(2000 + jarn) / HOUR:.3g} h" in text


def test_a_smaller_batch_is_extrapolated(played, tmp_path):
    """Time by the images, memory along the line through two batches: 2 + 1 an image."""
    text = dry_run.estimate(make(tmp_path, rows=("standard",)), 5, 4)
    assert played == [("standard", 5, [4, 16])]
    found = cells(text)["Standard"]
    assert (found["step, s"], found["images/s"], found["memory, GB"]) == ("80", "0.4", "34")
    assert "Extrapolated to batches of 32" in text and "4 and 16" in text


@pytest.mark.parametrize(("batch_size", "sizes"), [(16, [16, 32]), (32, [32])])
def test_no_batch_is_larger_than_the_preset_s(played, tmp_path, batch_size, sizes):
    dry_run.estimate(make(tmp_path, rows=("standard",)), 5, batch_size)
    assert played[0][2] == sizes


def test_a_row_that_does_not_fit_leaves_the_others(played, tmp_path):
    found = cells(dry_run.estimate(make(tmp_path, rows=("pgd_at", "standard"))))
    assert list(found["PGD-AT7"].values())[:3] == ["PGD-AT7", "out of memory", ""]
    assert found["Standard"]["run, h"] == f"{2000 / HOUR:.3g}"
    text = dry_run.estimate(make(tmp_path, rows=("pgd_at",)))
    assert cells(text)["PGD-AT7"]["run, h"] == ""


@pytest.mark.parametrize(
    ("name", "steps", "batch_size", "message"),
    [
        ("table1", 0, None, "dry_run must be a whole number of at least 1"),
        ("table1", 1, 0, "dry_run_batch must be a whole number of at least 1"),
        ("table1", 1, 33, "at most the preset's batch of 32. Received: 33"),
        ("table4", 1, None, "table4 trains nothing"),
    ],
)
def test_refused(played, tmp_path, name, steps, batch_size, message):
    with pytest.raises(ValueError, match=message) as error:
        dry_run.estimate(make(tmp_path, name), steps, batch_size)
    assert "\n" not in str(error.value)
    assert not played
