"""The two commands, as a user calls them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl import app, flags
from absl.testing import flagsaver

from jarn_tf.runs import config as config_lib
from jarn_tf.runs.settings import Optimizer
from launch import command, train

ROOT = pathlib.Path(train.__file__).parents[1]


def launch(module, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", f"launch.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


def assert_refused(done, *parts):
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run made by the command; the shortest there is."""
    workdir = tmp_path_factory.mktemp("launch") / "run"
    done = launch(
        "train",
        "--dataset=digits",
        "--epochs=2",
        "--batch_size=64",
        "--train_examples=128",
        "--test_examples=32",
        "--epsilon=8/255",
        f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "pgd40" in done.stdout
    return workdir


def test_train_writes_every_file_of_the_contract(workdir):
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
        assert (workdir / name).exists(), name
    assert list((workdir / "figures").glob("*.png"))
    assert not list(workdir.rglob("*.partial*"))
    config = json.loads((workdir / "config.json").read_text())
    assert config["config"]["epsilon"] == 8 / 255
    assert config["config"]["epochs"] == 2
    assert {"python", "tensorflow", "keras"} <= config["versions"].keys()
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert (evaluation["dataset"], evaluation["examples"]) == ("digits", 32)
    for row in evaluation["attacks"]:
        assert {"name", "epsilon", "steps", "restarts", "accuracy", "seconds"} <= row.keys()
        assert 0 <= row["accuracy"] <= 1


def test_evaluate_a_run(workdir):
    done = launch("evaluate", f"--workdir={workdir}", "--attacks=fgsm,pgd3", "--epsilon=0.1,8/255")
    assert done.returncode == 0, done.stderr
    rows = json.loads((workdir / "evaluation.json").read_text())["attacks"]
    there = {(row["name"], row["epsilon"]) for row in rows}
    assert there >= {(a, e) for a in ("fgsm", "pgd3") for e in (0.1, 8 / 255)}
    assert rows[0]["name"] == "clean"
    for row in rows:
        assert row["name"] in done.stdout


def test_evaluate_a_model_of_one_s_own(digits_classifier, tmp_path):
    digits_classifier.save(tmp_path / "mine.keras")
    done = launch(
        "evaluate",
        f"--model={tmp_path / 'mine.keras'}",
        "--dataset=digits",
        f"--output={tmp_path / 'out'}",
        "--attacks=pgd2_margin",
        "--restarts=2",
        "--examples=40",
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["examples"] == 40
    (row,) = [row for row in content["attacks"] if row["name"] == "pgd2_margin"]
    assert (row["steps"], row["restarts"], row["epsilon"]) == (2, 2, 0.3)


def test_a_verdict_from_the_command_line(digits_classifier, tmp_path):
    digits_classifier.save(tmp_path / "mine.keras")
    done = launch(
        "evaluate",
        f"--model={tmp_path / 'mine.keras'}",
        "--dataset=digits",
        f"--output={tmp_path / 'out'}",
        "--attacks=apgd_ce,apgd_dlr,apgd_margin,apgd_t,fab_t,square,autoattack",
        "--epsilon=8/255,0.1",
        "--examples=15",
        "--verdict",
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    content = json.loads((out / "evaluation.json").read_text())
    assert {"apgd_ce", "apgd_t", "fab_t", "square", "autoattack", "worst_case"} <= {
        row["name"] for row in content["attacks"]
    }
    assert content["verdict"]["label"] in ("masked", "not masked", "undecided")
    assert content["verdict"]["epsilon"] == 0.1
    assert content["verdict"]["label"].upper() in done.stdout
    for piece in content["verdict"]["evidence"]:
        assert piece["name"] in done.stdout
    assert (out / "figures" / "verdict.png").read_bytes()[:4] == b"\x89PNG"
    assert {p.name for p in (out / "adversarial").iterdir()} == {
        f"epsilon_{8 / 255}.npz", "epsilon_0.1.npz",
    }  # fmt: skip
    assert not (out / "evaluation_state").exists()


def test_evaluate_refuses_an_unknown_attack(run_dir):
    before = (run_dir / "evaluation.json").read_bytes()
    assert_refused(launch("evaluate", f"--workdir={run_dir}", "--attacks=cw"), "cw", "pgd40")
    assert (run_dir / "evaluation.json").read_bytes() == before


def test_evaluate_refuses_a_missing_workdir(tmp_path):
    done = launch("evaluate", f"--workdir={tmp_path / 'none'}")
    assert_refused(done, str(tmp_path / "none"), "--workdir")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_train_refuses_pixels_in_255ths(tmp_path):
    done = launch("train", "--epsilon=8", f"--workdir={tmp_path / 'run'}")
    assert_refused(done, "epsilon", "8/255")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


# In this process, as one more start costs seconds. `evaluate` defines the same flags, so not here.


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--dataset=imagenet", ["dataset", "imagenet"]),
        ("--defense=mart", ["defense", "mart"]),
        ("--epsilon=-1", ["epsilon", "-1"]),
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
    monkeypatch.setattr(train.training, "train", lambda *args: calls.append(args))
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


def test_show_prints_values_with_sources_and_trains_nothing(monkeypatch, capsys):
    monkeypatch.setattr(train.training, "train", lambda *args: pytest.fail("trained"))
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
    assert "result    clean 98.2" in "\n".join(lines)
    assert "Note: --penalty_weight has no effect" in "\n".join(lines)


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--dataset=cifar10", True), ("--defense=pgd_at", True), ("--dataset=mnist", False)],
)
def test_a_preset_that_was_never_measured_says_so(monkeypatch, capsys, flag, said):
    monkeypatch.setattr(train.training, "train", lambda *args: None)
    with flagsaver.flagsaver():
        flags.FLAGS(["train", flag])
        train.main(["train"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "never measured" in line]
    assert len(lines) == said


def test_train_hands_the_flags_to_the_library(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(train.training, "train", lambda *args: calls.append(args))
    with flagsaver.flagsaver():
        given = ["--epsilon=1/4", "--seed=0", "--robust_every=3", "--keep_best_robust"]
        flags.FLAGS(["train", "--dataset=mnist", "--preset=paper", *given])
        train.main(["train"])
    ((config, workdir),) = calls
    assert (config.dataset, config.preset) == ("mnist", "paper")
    assert (config.epsilon, config.seed) == (0.25, 0)
    assert (config.robust_every, config.keep_best_robust) == (3, True)
    assert pathlib.Path(workdir) == pathlib.Path("runs/mnist_jarn_paper")


# Reproduction


def test_reproduce_prints_and_writes_the_table(tmp_path):
    done = launch(
        "reproduce",
        "--experiment=table1",
        "--dataset=digits",
        "--scale=smoke",
        "--rows=standard",
        f"--output={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    text = (tmp_path / "table1.md").read_text()
    assert "| Standard |" in text
    assert text in done.stdout
    for name in ("table1.json", "table1.csv", "models"):
        assert (tmp_path / name).exists()
    assert not list(tmp_path.rglob("*.partial*"))


def test_reproduce_without_dataset_and_network(tmp_path, monkeypatch):
    """The proxy is a port of this machine where nothing answers."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    done = launch(
        "reproduce", "--experiment=table1", "--scale=smoke", f"--output={tmp_path / 'out'}"
    )
    assert_refused(done, "mnist", str(tmp_path / "tfds"), "--data_dir")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "out").rglob("*.json"))


BAD_FLAGS = {
    "experiment": (["--experiment=table6"], ["experiment", "table6", "figure5"]),
    "no experiment": ([], ["experiment"]),
    "dataset": (["--experiment=table1", "--dataset=imagenet"], ["dataset", "imagenet"]),
    "scale": (["--experiment=table1", "--scale=huge"], ["scale", "huge", "smoke"]),
    "row": (["--experiment=table1", "--rows=jarn,mart"], ["row", "mart", "jarn_at"]),
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
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What `launch.reproduce` stops with for each of `BAD_FLAGS`, all in one process."""
    output = tmp_path_factory.mktemp("refused") / "out"
    program = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from jarn_tf.runs import training
from launch import reproduce

training.train = lambda *args: sys.exit("trained")
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    try:
        with flagsaver.flagsaver():
            flags.FLAGS(["reproduce", "--scale=smoke", f"--output={sys.argv[2]}", *arguments])
            reproduce.main(["reproduce"])
    except (SystemExit, flags.Error) as stopped:
        found[name] = str(stopped)
    except Exception as error:
        found[name] = f"Traceback: {error!r}"
print("FOUND", json.dumps(found))
"""
    arguments = json.dumps({name: arguments for name, (arguments, _) in BAD_FLAGS.items()})
    done = subprocess.run(
        [sys.executable, "-c", program, arguments, str(output)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    return found | {"written": [path.name for path in output.rglob("*")]}


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_reproduce_refuses_bad_flags(refusals, name):
    message = refusals[name]
    assert "Traceback" not in message and message != "trained"
    assert "\n" not in message.strip()
    for part in BAD_FLAGS[name][1]:
        assert part in message


def test_reproduce_writes_nothing_where_it_refuses(refusals):
    assert refusals["written"] == []


def test_ctrl_c_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped, command.one_line_errors():
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "Interrupted. The same command again continues.\n"
