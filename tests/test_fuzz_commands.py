"""Command lines of any flags: what they ask for is done, or one line says what is wrong."""

import contextlib
import importlib
import json
import sys

import commands
import pytest
import toys
from absl import app, flags
from absl.testing import flagsaver
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jarn_tf import arguments
from jarn_tf.reproduction import dry_run, reproducing
from jarn_tf.reproduction.setting import EXPERIMENTS, ROWS, SCALES
from jarn_tf.runs import evaluating, training
from jarn_tf.runs import settings as kinds
from jarn_tf.runs.config import DEFENSES, Config, declarations
from jarn_tf.runs.settings import Optimizer

_WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
#: What most flags do not take.
_ODD = st.one_of(
    _WORDS,
    st.sampled_from(
        [
            "", " ", ",", ":", "=", "--", "~", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e400",
            "1e39", "1e-320", "1.5", "8", "1/0", "nan/1", "9" * 400 + "/1", "9" * 400, "9" * 5000,
            "2147483648", "0x10", "1_0", "٣", "💥", "true", "None", "8/255", "adam", "adam:",
            "adam:nan", "adam:0.1:0.9", "sgd:0.1:2", "rmsprop:0.1", "0.5:0.1,0.2:0.1", "0.5:inf",
            "0.5", "4,,8", "4,0", "folder:", "folder:/nowhere", "npz:/dev/null", "tfds:",
            "imagenet", "pgd0", "pgd-1", "pgd" + "9" * 30, "/dev/null/x", "/nowhere.keras",
        ]
    ),
)  # fmt: skip
_STRANGE = st.sampled_from(
    [["--no_such=1"], ["--noepochs"], ["mnist"], ["--"], ["--flagfile=/nowhere"], ["--seed"], ["-"]]
)


def _numbers(least, most):
    return st.floats(least, most).map(lambda number: (repr(number), number))


def _right(declared):
    """Text that a setting takes, and the value that it stands for."""
    kind = declared.kind
    if kind.choices:
        return st.sampled_from([(word, word) for word in kind.choices])
    quotients = st.integers(0, 255).map(lambda n: (f"{n}/255", n / 255))
    rates = st.floats(1e-6, 10)
    adam = rates.map(lambda rate: (f"adam:{rate!r}", Optimizer("adam", rate)))
    sgd = rates.map(lambda rate: (f"sgd:{rate!r}:0.9", Optimizer("sgd", rate, 0.9)))
    channels = st.lists(st.integers(1, 99), min_size=1, max_size=3)
    datasets = (*arguments.DATASETS, "npz:a/b.npz", "folder:x", "tfds:y")
    return {
        kinds.TRUTH: st.sampled_from([("true", True), ("false", False)]),
        kinds.RADIUS: st.one_of(quotients, _numbers(0, 1)),
        kinds.FRACTION: st.one_of(quotients, _numbers(0, 1)),
        kinds.POSITIVE: _numbers(1e-30, 1e30),
        kinds.NOT_NEGATIVE: _numbers(0, 1e30),
        kinds.OPTIMIZER: st.one_of(adam, sgd),
        kinds.DECAY: st.sampled_from([("", ()), ("0.5:0.1,0.75:1", ((0.5, 0.1), (0.75, 1.0)))]),
        kinds.CHANNELS: channels.map(lambda found: (",".join(map(str, found)), tuple(found))),
        kinds.DATASET: st.sampled_from([(name, name) for name in datasets]),
        kinds.TEXT: _WORDS.map(lambda text: (text, text)),
    }.get(kind, st.integers(1, 2**31 - 1).map(lambda number: (str(number), number)))


def _text(values):
    return values.map(lambda value: (str(value), None))


def _list(*words):
    return _text(st.lists(st.sampled_from(words), max_size=3).map(",".join))


_SETTINGS = {name: _right(declared) for name, declared in declarations().items()}
_TRUTH = _text(st.booleans())
_IMPORT = _list("json", "nowhere", ".", "")
#: Command to its flags; with the text that each takes the value, where the library gets that.
_FLAGS = {
    "train": _SETTINGS | {"workdir": _text(_WORDS), "import": _IMPORT, "show": _TRUTH},
    "evaluate": {
        name: _SETTINGS[name]
        for name in ("pixel_scale", "probabilities", "data_dir", "image_size", "memory_share")
    } | {
        "workdir": _text(_WORDS),
        "import": _IMPORT,
        "attacks": _list("fgsm", "pgd3", "pgd40_margin", "square", "autoattack", "cw", ""),
        "epsilon": _list("0.1", "8/255", "0", "1", "2", "x"),
        "examples": _text(st.integers(-1, 99)),
        "restarts": _text(st.integers(0, 3)),
        "step_size": _text(st.floats(0, 1)),
        "random_start": _TRUTH,
        "seed": _text(st.integers(-1, 2**64)),
        "verdict": _TRUTH,
    },
    "reproduce": {name: _SETTINGS[name] for name in ("dataset", "preset", "data_dir")} | {
        "experiment": _text(st.sampled_from(list(EXPERIMENTS))),
        "output": _text(_WORDS),
        "scale": _text(st.sampled_from(SCALES)),
        "rows": _list(*ROWS, "all"),
        "seeds": _list("0", "1", "-1", str(2**32)),
        "substitute": _text(_WORDS),
        "dry_run": _text(st.integers(-1, 3)),
        "dry_run_batch": _text(st.integers(-1, 3)),
    },
}  # fmt: skip


@st.composite
def lines(draw, command):
    """A command's flags, some of them odd, twice or unknown; and the last value of each."""
    line, values = [], {}
    names = draw(st.lists(st.sampled_from(sorted(_FLAGS[command])), max_size=6))
    odd = draw(st.sets(st.integers(0, 5), max_size=1))
    for number, name in enumerate(names):
        text, value = draw(_FLAGS[command][name])
        if number in odd:
            text, value = draw(_ODD), None
        line.append(f"{draw(st.sampled_from(['-', '--']))}{name}={text}")
        values[name] = value
    strange = draw(_STRANGE) if draw(st.integers(0, 9)) == 9 else []
    return [*line, *strange], values


@contextlib.contextmanager
def alone(command):
    """A command's module, with its flags defined and not those of others, which have the same."""
    others = _defined()
    flags.FLAGS.remove_flag_values({flag.name: flag for _, flag in others})
    there = sys.modules.pop(f"launch.{command}", None)
    try:
        yield importlib.import_module(f"launch.{command}")
    finally:
        flags.FLAGS.remove_flag_values({flag.name: flag for _, flag in _defined()})
        for module, flag in others:
            flags.FLAGS[flag.name] = flag
            flags.FLAGS.register_flag_by_module(module, flag)
        del sys.modules[f"launch.{command}"]
        if there is not None:
            sys.modules[there.__name__] = there


def _defined():
    """Modules of commands, with each flag that they have defined."""
    modules = flags.FLAGS.flags_by_module_dict().items()
    return [(name, flag) for name, of in modules if name.startswith("launch.") for flag in of]


def handed_over(module, line, stopping=()):
    """What a command hands to the library, or what it stops with in one line."""
    taken = []
    with flagsaver.flagsaver(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        for owner, name in stopping:
            patch.setattr(owner, name, lambda *given: taken.append(given))
        try:
            module.main(flags.FLAGS(["command", *line]))
        except (flags.Error, app.UsageError) as error:
            commands.assert_one_line(str(error))
        except SystemExit as stopped:
            assert isinstance(stopped.code, str), stopped.code
            commands.assert_one_line(stopped.code)
        else:
            return taken
    return None


@pytest.fixture(scope="module")
def train():
    with alone("train") as module:
        yield module


_STOPPING = {
    "train": [(training, "train")],
    "evaluate": [(evaluating, "evaluate")],
    "reproduce": [(reproducing, "reproduce"), (dry_run, "estimate")],
}


@given(lines("train"))
@example((["--weight_decay=" + "9" * 400 + "/1"], {}))
@example((["--epochs=" + "9" * 400], {}))
def test_train(train, drawn):
    line, values = drawn
    for config, _ in handed_over(train, line, _STOPPING["train"]) or []:
        assert isinstance(config, Config)
        json.dumps(config.as_dict(), allow_nan=False)
        given = {name: value for name, value in values.items() if value is not None}
        assert {name: getattr(config, name) for name in given} == given


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """The command, of a model of one's own."""
    folder = tmp_path_factory.mktemp("evaluate")
    toys.classifier(image_shape=(28, 28, 1), classes=10).save(folder / "model.keras")
    own = [f"--model={folder / 'model.keras'}", "--dataset=digits", f"--output={folder / 'out'}"]
    with alone("evaluate") as module:
        yield module, own


@given(lines("evaluate"))
@example((["--attacks=pgd" + "9" * 30], {}))
def test_evaluate(evaluate, drawn):
    module, own = evaluate
    line, values = drawn
    stopping = _STOPPING["evaluate"]
    for target, attacks, *_ in handed_over(module, [*own, *line], stopping) or []:
        assert attacks and all(0 <= attack.epsilon <= 1 for attack in attacks)
        for name in ("pixel_scale", "probabilities", "image_size", "memory_share"):
            assert values.get(name) in (None, getattr(target, name))


@pytest.fixture(scope="module")
def reproduce():
    with alone("reproduce") as module:
        yield module


@given(lines("reproduce"))
def test_reproduce(reproduce, drawn):
    line, values = drawn
    for setting, *_ in (
        handed_over(reproduce, ["--experiment=table1", *line], _STOPPING["reproduce"]) or []
    ):
        assert values.get("dataset") in (None, setting.dataset)
        assert values.get("preset") in (None, setting.preset)
        assert setting.rows and setting.seeds


_QUICK = ["--epochs=1", "--train_examples=64", "--test_examples=16", "--batch_size=32"]
_SMALL = ["--network=mnist_cnn", "--discriminator_filters=4", "--epsilon=0.1"]
#: Flags that may make a run long, or none of the digits.
_NOT_RUN = {
    "dataset", "epochs", "train_examples", "test_examples", "batch_size", "network",
    "discriminator_filters", "attack_steps", "workdir", "import", "show", "strategy", "replicas",
    "wide_resnet_units", "wide_resnet_width", "init_from", "regularizer", "perturbation", "preset",
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=max(1, settings.default.max_examples // 20))
@given(lines("train"), st.sampled_from(DEFENSES))
def test_runs(train, tmp_path_factory, drawn, defense):
    line, _ = drawn
    line = [flag for flag in line if flag.strip("-").partition("=")[0] not in _NOT_RUN]
    folder = tmp_path_factory.mktemp("run")
    fixed = [*_QUICK, *_SMALL, f"--defense={defense}", f"--workdir={folder / 'run'}"]
    if handed_over(train, [*line, *fixed]) is not None:
        for name in ("config.json", "history.csv", "model.keras", "evaluation.json"):
            assert (folder / "run" / name).exists()
