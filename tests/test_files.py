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
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "f.json"
    for content in ({"a": 1}, {"b": [1, 2]}):
        files.write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]
