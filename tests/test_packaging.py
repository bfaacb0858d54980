"""What the wheel is made of, as `pyproject.toml` and its companions say it."""

import pathlib
import tomllib

import pytest

import jarn_tf

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "jarn_tf").is_dir(), reason="reads the source tree, which is not beside the tests"
)


def test_every_package_is_in_the_wheel_and_launch_under_a_name_of_ours():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {path.parent for path in (ROOT / "jarn_tf").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in found}
    assert set(listed["packages"]) == names | {"jarn_tf_launch"}
    assert listed["package-dir"] == {"jarn_tf_launch": "launch"}


def test_every_file_of_data_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = [path for path in (ROOT / "jarn_tf").rglob("*") if path.is_file()]
    data = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert data == {
        ROOT.joinpath(*package.split("."), name)
        for package, names in listed["package-data"].items()
        for name in names
    }


def test_the_citation_has_the_version_of_the_package():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {jarn_tf.__version__}" in lines
