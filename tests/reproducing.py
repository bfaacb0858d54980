"""Settings of experiments on digits, and what their files say."""

import csv

import matplotlib.image

from jarn_tf.reproduction import reproducing


def make(output, name="table1", **options):
    defaults = {"dataset": "digits", "scale": "smoke", "rows": ("standard", "jarn")}
    return reproducing.make_setting(name, output, **{**defaults, **options})


def numbers(output, name="table1"):
    """(row, column) to what the CSV says of it."""
    with open(output / f"{name}.csv", newline="") as file:
        return {(line["row"], line["column"]): line for line in csv.DictReader(file)}


def means(output, name="table1"):
    return {place: float(line["mean"]) for place, line in numbers(output, name).items()}


def files(folder):
    """Those of the results; the models lie in a folder of their own."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def assert_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert matplotlib.image.imread(path).std() > 0.05  # not blank
