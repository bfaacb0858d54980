"""The commands, as a user calls them."""

import html
import json
import pathlib
import shutil
import signal
import sys
import types

import commands
import keras
import pytest
from absl import app, flags
from absl.testing import flagsaver
from events import written

import jarn_tf
from jarn_tf.files import read_json
from jarn_tf.runs import config as config_lib
from jarn_tf.runs import report_page, training
from jarn_tf.runs.settings import Optimizer
from launch import command, train

# Training and evaluating


def test_train_writes_every_file_of_the_contract(run_dir):
    for name in (
        "config.json",
        "history.csv",
        "train",
        "validation",
        "checkpoints",
        "model.keras",
        "classifier.keras",
        "evaluation.json",
    ):
        assert (run_dir / name).exists(), name
    assert list((run_dir / "figures").glob("*.png"))
    assert not list(run_dir.rglob("*.partial*"))
    config = json.loads((run_dir / "config.json").read_text())
    assert config["config"]["epsilon"] == config["config"]["training_epsilon"] == 8 / 255
    assert config["config"]["epochs"] == 4
    assert {"python", "tensorflow", "keras"} <= config["versions"].keys()
    evaluation = json.loads((run_dir / "evaluation.json").read_text())
    assert (evaluation["dataset"], evaluation["examples"]) == ("digits", 64)
    for row in evaluation["attacks"]:
        assert {"name", "epsilon", "steps", "restarts", "accuracy", "seconds"} <= row.keys()
        assert 0 <= row["accuracy"] <= 1
    assert "pgd40" in (run_dir.parent / "stdout").read_text()


def test_evaluate_adds_to_what_training_measured(run_dir, tmp_path):
    for name in ("config.json", "classifier.keras", "evaluation.json"):
        shutil.copy(run_dir / name, tmp_path)
    before = read_json(tmp_path / "evaluation.json")
    radii = "--epsilon=0.1,8/255"
    done = commands.launch("evaluate", f"--workdir={tmp_path}", "--attacks=fgsm,pgd3", radii)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    there = {(row["name"], row["epsilon"]) for row in content["attacks"]}
    assert there >= {(a, e) for a in ("fgsm", "pgd3") for e in (0.1, 8 / 255)}
    assert content["attacks"][0]["name"] == "clean"
    for row in content["attacks"]:
        assert row["name"] in done.stdout
    (earlier,) = content["earlier"]
    assert earlier == {name: value for name, value in before.items() if name != "earlier"}
    assert {p.name for p in (tmp_path / "adversarial").iterdir()} == {
        f"epsilon_{8 / 255}.npz", "epsilon_0.1.npz",
    }  # fmt: skip


_LAYERS = """
import keras

@keras.saving.register_keras_serializable("mine")
class Brightness(keras.layers.Layer):
    def call(self, pixels):
        return pixels / 255
"""


def save_model_of_another_kind(classifier, folder):
    """Pixels up to 255 to probabilities, through a layer of a module of one's own."""
    (folder / "my_layers.py").write_text(_LAYERS)
    layers = {}
    exec(_LAYERS, layers)
    inputs = keras.Input((28, 28, 1))
    outputs = keras.layers.Softmax()(classifier(layers["Brightness"]()(inputs)))
    keras.Model(inputs, outputs).save(folder / "other.keras")


@pytest.fixture(scope="module")
def evaluated(digits_classifier, tmp_path_factory):
    """Folder of a model of one's own, and what calls of `launch.evaluate` there said."""
    folder = tmp_path_factory.mktemp("own")
    digits_classifier.save(folder / "mine.keras")
    save_model_of_another_kind(digits_classifier, folder)
    other = [f"--model={folder / 'other.keras'}", "--dataset=digits", "--examples=6"]
    told = ["--pixel_scale=255", "--import=my_layers"]
    own = [f"--model={folder / 'mine.keras'}", "--dataset=digits", "--examples=6"]
    calls = {
        "own": [*own, f"--output={folder / 'own'}", "--attacks=pgd2_margin", "--restarts=2"],
        "verdict": [
            *own, f"--output={folder / 'verdict'}", "--attacks=apgd_dlr,apgd_margin,autoattack",
            "--epsilon=0.1", "--verdict",
        ],
        "no import": [*other, f"--output={folder / 'none'}"],
        "probabilities": [*other, *told, f"--output={folder / 'none'}", "--attacks=fgsm"],
        "other": [
            *other, *told, "--probabilities", f"--output={folder / 'other'}", "--attacks=fgsm",
        ],
        "of the same": [*own, f"--output={folder / 'same'}", "--attacks=fgsm"],
        "absent module": [*own, f"--output={folder / 'none'}", "--import=absent_module"],
        "l2": [
            *own, f"--output={folder / 'l2'}", "--attacks=fgsm", "--norm=l2", "--epsilon=2",
        ],
        "l2, no radius": [*own, f"--output={folder / 'none'}", "--norm=l2"],
        "l2, verdict": [
            *own, f"--output={folder / 'none'}", "--norm=l2", "--epsilon=2", "--verdict",
        ],
        "version": [*own, f"--output={folder / 'none'}", "--attacks=fgsm", "--version=plus"],
        "unknown attack": [*own, f"--output={folder / 'none'}", "--attacks=cw"],
        "two targets": [*own, f"--workdir={folder}"],
        "no target": [],
    }  # fmt: skip
    return folder, commands.in_one_process("evaluate", calls, PYTHONPATH=str(folder))


def test_evaluate_a_model_of_another_kind(evaluated):
    folder, said = evaluated
    assert said["other"][1] == said["of the same"][1] == ""
    rows = [
        {row["name"]: row["accuracy"] for row in json.loads(path.read_text())["attacks"]}
        for path in (folder / name / "evaluation.json" for name in ("other", "same"))
    ]
    assert rows[0] == rows[1] and rows[0].keys() >= {"clean", "fgsm"}


def test_evaluate_a_model_of_one_s_own(evaluated):
    folder, said = evaluated
    assert said["own"][1] == ""
    content = json.loads((folder / "own" / "evaluation.json").read_text())
    assert content["examples"] == 6
    (row,) = [row for row in content["attacks"] if row["name"] == "pgd2_margin"]
    assert (row["steps"], row["restarts"], row["epsilon"]) == (2, 2, 0.3)
    content = json.loads((folder / "l2" / "evaluation.json").read_text())
    assert (content["attacks"][1]["norm"], content["attacks"][1]["epsilon"]) == ("l2", 2)


def test_a_verdict_from_the_command_line(evaluated):
    folder, said = evaluated
    printed, stopped = said["verdict"]
    assert stopped == ""
    out = folder / "verdict"
    content = json.loads((out / "evaluation.json").read_text())
    assert {"apgd_dlr", "apgd_margin", "autoattack", "worst_case"} <= {
        row["name"] for row in content["attacks"]
    }
    assert content["verdict"]["label"] in ("masked", "not masked", "undecided")
    assert content["verdict"]["epsilon"] == 0.1
    assert content["verdict"]["label"].upper() in printed
    for piece in content["verdict"]["evidence"]:
        assert piece["name"] in printed
    ((_, text),) = written(out / "test")["evaluation"]
    for part in ("autoattack", content["verdict"]["label"].upper(), piece["finding"]):
        assert part in text.item().decode()
    for name in ("attacked", "verdict"):
        assert (out / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert not (out / "evaluation_state").exists()
    page, _ = report_page.report([out], folder / "report.html")
    assert html.escape(piece["finding"]) in page.read_text()


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        ("unknown attack", ["cw", "pgd40"]),
        ("l2, no radius", ["--epsilon", "--norm=l2"]),
        ("l2, verdict", ["--verdict", "--norm=l2"]),
        ("version", ["--version=plus", "autoattack in --attacks"]),
        ("no import", ["other.keras", "Brightness", "--import"]),
        ("probabilities", ["probabilities", "--probabilities"]),
        ("absent module", ["--import=absent_module", "cannot be imported"]),
        ("two targets", ["--workdir", "--model"]),
        ("no target", ["--workdir", "--model"]),
    ],
)
def test_evaluate_refuses(evaluated, call, parts):
    folder, said = evaluated
    commands.assert_one_line(said[call][1], *parts)
    assert not (folder / "none" / "evaluation.json").exists()


def test_a_refusal_is_one_line_of_standard_error(tmp_path):
    missing = tmp_path / "none"
    done = commands.run("-m", "launch.evaluate", f"--workdir={missing}")
    assert done.returncode == 1
    commands.assert_one_line(done.stderr, str(missing), "--workdir")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("train --help", 1, "--[no]standardize"),  # absl's status
        ("evaluate --help", 1, "apgd_ce"),
        ("reproduce --help", 1, "table1, table2"),
        ("report --help", 1, "report_model_card.md"),
        ("report", 1, "Error: Name at least one folder"),
        ("report --runs=a,", 1, "Error: Name folders in --runs"),
        ("train --show", 0, "discriminator_filters"),
        ("train --epsilon=8", 1, "Error: epsilon"),
        ("evaluate --workdir=none --attacks=cw", 1, "Error: Unknown attack 'cw'"),
        ("evaluate", 1, "Error: Name --workdir"),
        ("reproduce --experiment=table6", 1, "Error: The experiment must"),
        ("reproduce --experiment=table1 --scale=huge", 1, "Error: scale must"),
    ],
)
def test_what_flags_alone_can_tell_needs_no_tensorflow(line, status, said):
    module, *given = line.split()
    done = commands.run("-X", "importtime", "-m", f"launch.{module}", *given)
    notes, rest = [], []
    for text in done.stderr.splitlines():
        (notes if text.startswith("import time:") else rest).append(text)
    imported = {note.rpartition("|")[2].strip() for note in notes}
    assert "absl.flags" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "matplotlib", "sklearn"}
    assert done.returncode == status
    assert said in (rest[0] if said.startswith("Error") else done.stdout)
    assert len(rest) == said.startswith("Error")


def test_the_library_is_whole_in_a_program_that_imports_a_command():
    program = """
import sys
import launch.train
import jarn_tf
assert "tensorflow" not in sys.modules
from jarn_tf import JARN, attacks
print(JARN is jarn_tf.JARN, callable(jarn_tf.attacks.pgd), jarn_tf.__version__)
"""
    done = commands.run("-c", program)
    assert done.stdout.split() == ["True", "True", jarn_tf.__version__], done.stderr


def test_a_closed_pipe_ends_a_command_quietly():
    program = """
import os, sys
from launch import train

reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
sys.argv = ["train", "--show"]
train.run()
"""
    done = commands.run("-c", program)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


# In this process, as one more start costs seconds. `evaluate` defines the same flags, so not here.


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--dataset=imagenet", ["dataset", "imagenet"]),
        ("--defense=mart", ["defense", "mart"]),
        ("--epsilon=-1", ["epsilon", "-1"]),
        ("--epsilon=8", ["epsilon", "did you mean 8/255"]),
        ("--epsilon=nan", ["epsilon", "nan"]),
        ("--epsilon=1/0", ["epsilon"]),
        ("--epsilon=tiny", ["epsilon", "tiny"]),
        ("--epochs=0", ["epochs"]),
        ("--batch_size=2000", ["batch_size=2000"]),
        ("--seed=-1", ["eed must"]),
        ("--robust_every=0", ["robust_every"]),
    ],
)
def test_train_refuses_bad_flags(flag, parts, tmp_path, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        try:
            flags.FLAGS(["train", flag, f"--workdir={tmp_path / 'run'}"])
        except flags.Error as error:  # absl prints it with the usage
            sys.exit(str(error))
        train.main(["train"])
    message = stopped.value.code
    assert isinstance(message, str)  # which Python prints, with exit status 1
    assert "\n" not in message.strip()
    for part in parts:
        assert part in message
    assert not list(tmp_path.iterdir())


def test_an_argument_that_is_no_flag():
    with flagsaver.flagsaver():
        flags.FLAGS(["train"])
        with pytest.raises(app.UsageError, match="mnist"):
            train.main(["train", "mnist"])


def test_every_setting_is_a_flag_and_reaches_the_configuration(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(training, "train", lambda *args: calls.append(args))
    given = {
        "defense": ("jarn_at", "jarn_at"),
        "pixel_scale": ("255", 255.0),
        "classifier_optimizer": ("sgd:0.1:0.9", Optimizer("sgd", 0.1, 0.9)),
        "classifier_decay": ("0.5:0.1,0.75:0.01", ((0.5, 0.1), (0.75, 0.01))),
        "discriminator_filters": ("8,16", (8, 16)),
        "attack_step_size": ("2/255", 2 / 255),
        "augment": ("true", True),
        "test_examples": ("7", 7),
    }
    with flagsaver.flagsaver():
        flags.FLAGS(["train", *(f"--{name}={text}" for name, (text, _) in given.items())])
        train.main(["train"])
        names = set(flags.FLAGS)
    ((config, _),) = calls
    assert set(config_lib.declarations()) <= names
    for name, (_, value) in given.items():
        assert getattr(config, name) == value, name


def test_help_lists_every_setting():
    listed = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(train)}
    assert listed == {*config_lib.declarations(), "workdir", "import", "show"}


def test_show_prints_values_with_sources_and_trains_nothing(monkeypatch, capsys):
    monkeypatch.setattr(training, "train", lambda *args: pytest.fail("trained"))
    with flagsaver.flagsaver():
        flags.FLAGS(["train", "--dataset=mnist", "--epochs=3", "--penalty_weight=2", "--show"])
        train.main(["train"])
    lines = capsys.readouterr().out.splitlines()

    def line(name):
        (found,) = [line.split(maxsplit=2) for line in lines if line.startswith(name + " ")]
        return found[1:]

    assert line("epochs") == ["3", "--epochs"]
    assert line("jacobian_of")[0] == "logit"
    assert line("discriminator_filters")[0] == "32,64"
    assert "result    clean " in "\n".join(lines)
    assert "Note: --penalty_weight has no effect" in "\n".join(lines)


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--dataset=cifar10", True), ("--defense=pgd_at", True), ("--dataset=mnist", False)],
)
def test_a_preset_that_was_never_measured_says_so(monkeypatch, capsys, flag, said):
    monkeypatch.setattr(training, "train", lambda *args: None)
    with flagsaver.flagsaver():
        flags.FLAGS(["train", flag])
        train.main(["train"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "never measured" in line]
    assert len(lines) == said


def test_train_hands_the_flags_to_the_library(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(training, "train", lambda *args: calls.append(args))
    with flagsaver.flagsaver():
        given = ["--epsilon=1/4", "--seed=0", "--robust_every=3", "--keep_best_robust"]
        flags.FLAGS(["train", "--dataset=mnist", "--preset=paper", *given])
        train.main(["train"])
    ((config, workdir),) = calls
    assert (config.dataset, config.preset) == ("mnist", "paper")
    assert (config.epsilon, config.seed) == (0.25, 0)
    assert (config.robust_every, config.keep_best_robust) == (3, True)
    assert pathlib.Path(workdir) == pathlib.Path("runs/mnist_jarn_paper")


def test_each_dataset_has_a_folder_of_its_own(monkeypatch):
    folders = []
    monkeypatch.setattr(training, "train", lambda config, workdir: folders.append(workdir))
    for dataset in ("npz:my_set.npz", "folder:a_b", "folder:a/b", "folder:/a/b", "folder:a%2Fb"):
        with flagsaver.flagsaver():
            flags.FLAGS(["train", f"--dataset={dataset}"])
            train.main(["train"])
    assert [folder.parent for folder in folders] == [pathlib.Path("runs")] * 5
    assert len(set(folders)) == 5
    assert folders[0].name == "npz_my_set.npz_jarn_recommended"


def test_train_imports_modules_first(monkeypatch, tmp_path):
    (tmp_path / "my_classes.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(training, "train", lambda *args: sys.modules["my_classes"])
    with flagsaver.flagsaver():
        flags.FLAGS(["train", "--import=my_classes"])
        train.main(["train"])
        flags.FLAGS(["train", "--import=absent_module"])
        with pytest.raises(SystemExit) as stopped:
            train.main(["train"])
    commands.assert_one_line(stopped.value.code, "--import=absent_module")


# Reproduction


def test_reproduce_prints_and_writes_the_table(finished):
    text = (finished / "table1.md").read_text()
    assert "| Standard |" in text
    assert text in (finished.parent / "stdout").read_text()
    for name in ("table1.json", "table1.csv", "models"):
        assert (finished / name).exists()
    assert not list(finished.rglob("*.partial*"))


BAD_FLAGS = {
    "experiment": (["--experiment=table6"], ["experiment", "table6", "figure5"]),
    "no experiment": ([], ["experiment"]),
    "dataset": (["--experiment=table1", "--dataset=imagenet"], ["dataset", "imagenet"]),
    "scale": (["--experiment=table1", "--scale=huge"], ["scale", "huge", "smoke"]),
    "row": (["--experiment=table1", "--rows=jarn,mart"], ["rows", "mart", "jarn_at"]),
    "no row": (["--experiment=table1", "--rows="], ["row"]),
    "no seeds": (["--experiment=table1", "--seeds="], ["seeds"]),
    "same seeds": (["--experiment=table1", "--seeds=0,0"], ["seeds", "0,0"]),
    "negative seed": (["--experiment=table1", "--seeds=-1"], ["seed", "-1"]),
    "words for seeds": (["--experiment=table1", "--seeds=one,two"], ["seeds", "one,two"]),
    "substitute of a table": (["--experiment=table1", "--substitute=m.keras"], ["table5"]),
    "no substitute": (
        ["--experiment=table5", "--substitute=nowhere.keras", "--dataset=digits"],
        ["nowhere.keras"],
    ),
    "output": (["--experiment=table4", "--output=/dev/null/out"], ["/dev/null/out"]),
    "no step of a dry run": (["--experiment=table1", "--dry_run=0"], ["dry_run", "0"]),
    "a batch of no dry run": (["--experiment=table1", "--dry_run_batch=2"], ["--dry_run=20"]),
    "no dataset and no network": (["--experiment=table1"], ["mnist", "nowhere", "--data_dir"]),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What `launch.reproduce` stops with for each of `BAD_FLAGS`, and what it has written.

    The proxy is a port of this machine where nothing answers.
    """
    folder = tmp_path_factory.mktemp("refused")
    always = ["--scale=smoke", f"--output={folder / 'out'}"]
    found = commands.in_one_process(
        "reproduce",
        {name: [*always, *arguments] for name, (arguments, _) in BAD_FLAGS.items()},
        TFDS_DATA_DIR=str(folder / "nowhere"),
        https_proxy="http://127.0.0.1:1",
        HTTPS_PROXY="http://127.0.0.1:1",
    )
    return found, [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_reproduce_refuses_bad_flags(refusals, name):
    commands.assert_one_line(refusals[0][name][1], *BAD_FLAGS[name][1])


def test_reproduce_writes_nothing_where_it_refuses(refusals):
    assert set(refusals[1]) <= {".lock"}


def test_ctrl_c_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped, command.one_line_errors():
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "Interrupted. The same command again continues.\n"


def test_sigterm_is_one_line_and_status_0(capsys):
    """A run that trains saves before, see test_backup."""
    before = signal.getsignal(signal.SIGTERM)
    module = types.SimpleNamespace(
        __name__="launch.train", main=lambda argv: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(command.app, "run", lambda main: main([]))
        command.run(module)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one ends at once
    signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 0
    assert capsys.readouterr().err == "Stopped. The same command again continues.\n"
