"""Imports run one way, from the command line down to the mathematics."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
#: From the top down; what is not named is the library.
ABOVE = ("launch", "reproduction", "runs")
#: Within the library, from the top down, as BUILD.md has it.
CHAIN = (
    "callbacks", "evaluation", "baselines", "jarn", "defense", "steps", "attacks", "jacobian",
    "real_images",
    "losses", "networks", "data", "randomness", "classifiers", "resume", "digests", "inference",
    "workers", "checks", "arguments", "batches", "precision", "labels", "metrics", "files",
    "durations", "differences",
)  # fmt: skip
FILES = sorted((ROOT / "jarn_tf").rglob("*.py")) + sorted((ROOT / "launch").rglob("*.py"))

pytestmark = pytest.mark.skipif(
    not (ROOT / "jarn_tf").is_dir(), reason="reads the source tree, which is not beside the tests"
)


def part(name):
    """`jarn_tf.evaluation.figures` to `evaluation`; `launch.train` to `launch`; else None."""
    pieces = name.split(".")
    if pieces[0] == "launch":
        return "launch"
    return pieces[1] if pieces[0] == "jarn_tf" and len(pieces) > 1 else None


def imported(path):
    """Every module that a file imports anywhere, by its dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # a console command has the folder under another name
                assert path.parent.name == "launch", f"relative import in {path}"
                continue
            for alias in node.names:
                # `from jarn_tf import data` names a module, `from absl import flags` too.
                names.add(f"{node.module}.{alias.name}")
    return names


def dependencies():
    """Part to the parts that it imports, other than itself."""
    found = {}
    for path in FILES:
        relative = path.relative_to(ROOT).with_suffix("")
        name = part(".".join(relative.parts).removesuffix(".__init__"))
        if name is not None:  # the package's own __init__ gathers what users need
            found.setdefault(name, set()).update(filter(None, map(part, imported(path))))
    return {name: uses - {name} for name, uses in found.items()}


def test_imports_run_downwards_only():
    floors = [*ABOVE, *CHAIN]
    assert set(floors) <= set(dependencies())
    rank = {name: i for i, name in enumerate(floors)}
    for name, uses in dependencies().items():
        for used in uses:
            below = rank.get(used, len(floors)) > rank.get(name, len(floors))
            assert below or used not in rank, f"{name} imports {used}"


def test_the_library_knows_no_run():
    for name, uses in dependencies().items():
        if name not in ABOVE:
            assert not uses & set(ABOVE), f"{name} imports {uses & set(ABOVE)}"


def test_no_part_imports_itself_by_way_of_others():
    graph = dependencies()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        for used in graph.get(name, ()):
            visit(used, [*path, name])

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", ["arguments.py", "runs/config.py", "runs/settings.py"])
def test_settings_import_the_standard_library_and_each_other_only(path):
    for name in imported(ROOT / "jarn_tf" / path):
        ours = ("jarn_tf.arguments", "jarn_tf.runs.settings")
        assert name.startswith(ours) or name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_flags_are_read_in_launch_only(path):
    if path.is_relative_to(ROOT / "jarn_tf"):
        assert not any(name.split(".")[0] == "absl" for name in imported(path))
