"""`history.csv`, which survives resuming and columns that come later."""

from __future__ import annotations

import csv
import hashlib
import os
import pathlib

import keras

from jarn_tf.files import write_atomically
from jarn_tf.metrics import with_values


class HistoryFile(keras.callbacks.Callback):
    """Keeps `history.csv`: one row an epoch, Keras's names, an empty cell where there is no value.

    Keras's own `CSVLogger` fixes the columns at the first epoch and repeats rows when a run
    resumes. An epoch without a step of the regulariser has no value of its losses.

    Args:
        path: The file.

    Raises:
        ValueError: In a `fit` that goes on, a file there that it did not write.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = pathlib.Path(path)
        self.digest: str | None = None  # of the rows so far, for `Backup` to remember

    def on_epoch_end(self, epoch, logs=None):
        rows = self.check(epoch)
        rows.append({"epoch": str(epoch)} | {n: str(v) for n, v in with_values(logs).items()})
        self.digest = _digest(rows)
        columns = list(dict.fromkeys(name for row in rows for name in row))

        def write(path):
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)

        write_atomically(self.path, write)

    def check(self, epoch: int) -> list[dict]:
        """The rows of the epochs before `epoch`; says so if they are not as they were written."""
        rows = self._rows_before(epoch)
        if self.digest not in (None, _digest(rows)):
            print(f"Warning: {self.path} is not as it was written; its rows are kept as they are.")
        return rows

    def _rows_before(self, epoch: int) -> list[dict]:
        if epoch == 0 or not self.path.is_file():
            return []
        try:
            with open(self.path, newline="") as file:
                return [
                    {name: value for name, value in row.items() if value != ""}
                    for row in csv.DictReader(file)
                    if int(row["epoch"]) < epoch
                ]
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is no history ({error!r}). Move it away.") from None


def _digest(rows: list[dict[str, str]]) -> str:
    # Sorted, as columns that come later stand last in the file.
    return hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode()).hexdigest()
