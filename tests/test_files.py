import json

import pytest

from jarn_tf import files


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.json"
    files.write_json(path, {"a": 1})

    def half(temporary):
        temporary.write_text("{")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        files.write_atomically(path, half)
    assert files.read_json(path) == {"a": 1}


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "f.json"
    for content in ({"a": 1}, {"b": [1, 2]}):
        files.write_json(path, content)
        assert files.read_json(path) == content
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_a_value_that_changed_since_is_noticed(tmp_path):
    path = tmp_path / "f.json"
    files.write_json(path, {"accuracy": 0.25, "name": "fgsm"})
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(ValueError, match="is not as it was written: .* delete sha256"):
        files.read_json(path)
    content = json.loads(path.read_text())
    del content["sha256"]  # as of a file made by hand
    path.write_text(json.dumps(content))
    assert files.read_json(path) == {"accuracy": 0.75, "name": "fgsm"}


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("before")

    def fill(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=f"{path} cannot be written: No space left on device"):
        files.write_atomically(path, fill)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("model.keras", "before")]
