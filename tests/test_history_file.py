"""The rows of `history.csv`."""

import csv
import math

import numpy as np
import pytest

from jarn_tf import callbacks


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_that_changed_since_are_noticed(tmp_path, capsys):
    path = tmp_path / "h.csv"
    first, again = callbacks.HistoryFile(path), callbacks.HistoryFile(path)
    first.on_epoch_end(0, {"loss": 2.5})
    first.on_epoch_end(1, {"adversarial_loss": -1.0, "loss": 2.0})  # a column that comes later
    again.digest = first.digest  # as `Backup` has it
    again.on_epoch_end(2, {"adversarial_loss": -1.5, "loss": 1.5})
    assert capsys.readouterr().out == ""
    path.write_text(path.read_text().replace("2.5", "2.4"))
    again.on_epoch_end(3, {"loss": 0.5})
    assert capsys.readouterr().out.startswith(f"Warning: {path} is not as it was written")
    assert [row["loss"] for row in rows_of(path)] == ["2.4", "2.0", "1.5", "0.5"]


def test_columns_may_come_later_and_no_value_is_an_empty_cell(tmp_path):
    history = callbacks.HistoryFile(tmp_path / "h.csv")
    history.on_epoch_end(0, {"loss": 2.5})
    history.on_epoch_end(1, {"loss": np.float32(1.5), "adversarial_loss": -1.25})
    history.on_epoch_end(2, {"loss": 0.5, "val_robust_accuracy": 0.75})
    assert rows_of(tmp_path / "h.csv") == [
        {"epoch": "0", "loss": "2.5", "adversarial_loss": "", "val_robust_accuracy": ""},
        {"epoch": "1", "loss": "1.5", "adversarial_loss": "-1.25", "val_robust_accuracy": ""},
        {"epoch": "2", "loss": "0.5", "adversarial_loss": "", "val_robust_accuracy": "0.75"},
    ]


@pytest.mark.parametrize("resumed_at", [0, 1, 2])
def test_a_resumed_run_replaces_the_rows_from_there_on(tmp_path, resumed_at):
    path = tmp_path / "h.csv"
    for epoch in range(3):
        callbacks.HistoryFile(path).on_epoch_end(epoch, {"loss": 10.0 + epoch})
    callbacks.HistoryFile(path).on_epoch_end(resumed_at, {"loss": 20.0})
    expected = [10.0 + epoch for epoch in range(resumed_at)] + [20.0]
    assert [float(row["loss"]) for row in rows_of(path)] == expected
    assert [int(row["epoch"]) for row in rows_of(path)] == list(range(resumed_at + 1))


def test_history_of_a_run(run_dir):
    """4 epochs; JARN's phase begins with the second."""
    rows = rows_of(run_dir / "history.csv")
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert [row["adversarial_loss"] == "" for row in rows] == [True, False, False, False]
    for row in rows:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_robust_accuracy"):
            assert math.isfinite(float(row[name]))
