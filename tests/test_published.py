"""What the paper prints, beside what is measured."""

import pytest
from reproducing import make, numbers

from jarn_tf.reproduction import reproducing


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("table1", "jarn", "FGSM", 98.4),
        ("table1", "jarn", "PGD-40", 98.1),
        ("table1", "standard", "PGD-40", 0),
        ("table1", "uniform_noise", "PGD-40", 0.02),
        ("table1", "jarn", "clean", 98.8),
        ("table2", "jarn", "PGD-20", 26.79),
        ("table2", "uniform_noise", "PGD-10", 18.4),
        ("table2", "standard", "clean", 94.7),
        ("table3", "fgsm_at", "FGSM", 94.5),
        ("table3", "fgsm_at", "PGD-20", 0.01),
        ("table3", "pgd_at", "clean", 87.3),
        ("table3", "jarn_at", "PGD-20", 46.7),
        ("table3", "double_backprop", "PGD-5", 0.05),
        ("table3", "jarn", "PGD-20 margin", None),
        ("table3", "trades", "clean", None),
        ("table4", "pgd_at, wide_resnet", "epoch, s", 704),
        ("table4", "jarn_at, wide_resnet", "epoch, s", 294),
        ("table4", "fgsm_at, wide_resnet", "epoch, s", 267),
        ("table4", "jarn, wide_resnet", "epoch, s", 217),
        ("table4", "jarn, wide_resnet", "active step, s", None),
        ("table4", "jarn, mnist_cnn", "epoch, s", None),
        ("table4", "standard, wide_resnet", "epoch, s", None),
        ("table5", "jarn", "same model, PGD-20", 17.4),
        ("table5", "jarn_at", "PGD-AT7, FGSM", 66.4),
        ("table5", "jarn", "substitute, FGSM", None),
        ("figure2", "pgd_at, PGD-5", "eps 8/255", 55.5),
        ("figure2", "jarn_at, PGD-20", "eps 0/255", 84.8),
        ("figure2", "jarn_at, PGD-20", "eps 4/255", None),
        ("figure2", "pgd_at_wide, PGD-5", "eps 8/255", None),
        ("figure5", "jarn, adversarial_weight 1", "PGD-20", 15.5),
        ("figure5", "jarn, adversarial_weight 10", "PGD-20", None),
    ],
)
def test_published_numbers(tmp_path, name, row, column, value):
    setting = make(tmp_path, name, dataset=None, scale="full", rows=None)
    assert reproducing.find(name).published(setting, row, column) == value


def test_published_ratio_of_seconds(tmp_path):
    """Less than half the time of PGD-AT7, as Section 4.3.4 says."""
    setting = make(tmp_path, "table4", dataset=None, scale="full", rows=None)
    ratio = reproducing.find("table4").published(setting, "jarn_at, wide_resnet", "epoch / PGD-AT7")
    assert ratio == pytest.approx(294 / 704, abs=5e-4)


def test_tables_of_another_dataset_have_no_published_numbers(tmp_path):
    setting = make(tmp_path, "table5", dataset="mnist")
    assert reproducing.find("table5").published(setting, "jarn", "same model, PGD-20") is None
    setting = make(tmp_path, "table3", dataset="digits")
    assert reproducing.find("table3").published(setting, "jarn", "clean") is None


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("table1", 3, 4), ("table2", 3, 5), ("table3", 7, 5)]
)
def test_every_number_of_the_papers_tables_stands_beside_a_measured_one(
    played, tmp_path, name, rows, columns
):
    text = reproducing.reproduce(make(tmp_path, name, dataset=None, rows=None))
    found = [line for line in numbers(tmp_path, name).values() if line["published"]]
    assert len(found) == rows * columns
    assert text.count("(paper ") == rows * columns
    assert len(played) == rows


def test_markdown_shows_the_measured_beside_the_published(played, tmp_path):
    text = reproducing.reproduce(make(tmp_path, dataset="mnist"))
    (run,) = [run for run in played if run.defense == "jarn"]
    (line,) = [line for line in text.splitlines() if line.startswith("| JARN |")]
    (title,) = [line for line in text.splitlines() if line.startswith("| model |")]
    cells = dict(zip(title.split(" | "), line.split(" | ")))
    assert cells["FGSM"].endswith("(paper 98.4)")
    assert float(cells["FGSM"].split()[0]) == pytest.approx(100 * played[run]["fgsm"], abs=0.05)
    assert cells["PGD-40"].endswith("(paper 98.1)")
    assert "paper" not in cells["worst"]
    assert (tmp_path / "table1.md").read_text() == text
