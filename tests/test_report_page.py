"""The page and the model cards, of folders that were never trained."""

import html.parser
import json

import numpy as np
import pytest
import toys

from jarn_tf.runs import report_page
from jarn_tf.runs.presets import preset

HOSTILE = "<img src=x onerror=alert(1)> `|[a](b) $\\frac$"
VERDICT = {
    "label": "masked", "epsilon": 0.1, "examples": 40,
    "accuracies": {"PGD-40": {"0.0": 0.9, "0.1": 0.5}, "Square": {"0.0": 0.9, "0.1": 0.025}},
    "evidence": [{"name": "zero gradients", "label": "masked", "finding": "</td><script>"}],
}  # fmt: skip


def evaluated(folder, examples=50, verdict=None, dataset="digits", **accuracies):
    """Writes an evaluation of attacks `NAME_at_EPSILON` or `NAME_at_EPSILON_NORM`."""
    rows = [{"name": "clean", "epsilon": 0.0, "steps": 0, "restarts": 0, "accuracy": 0.9}]
    for key, accuracy in accuracies.items():
        name, _, radius = key.partition("_at_")
        epsilon, _, norm = radius.partition("_")
        rows.append({"name": name, "epsilon": float(epsilon), "steps": 40, "restarts": 1})
        rows[-1] |= {"accuracy": accuracy} | ({"norm": norm} if norm else {})
    found = {
        "dataset": dataset, "examples": examples, "saliency": toys.SALIENCY, "verdict": verdict,
        "attacks": [row | {"seconds": 1.0} for row in rows], "collapsed_to_class": None,
        "versions": {"keras": "3.15"}, "command": "python -m launch.evaluate --model=a.keras",
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(found))
    return folder


def trained(folder, **settings):
    folder.mkdir(exist_ok=True)
    config = preset("digits", **settings).as_dict()
    (folder / "config.json").write_text(json.dumps({"config": config}))
    return folder


class Page(html.parser.HTMLParser):
    """What a page says, by tags that are all closed."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.addresses, self.rows = [], [], [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == []
        self.said = " ".join(" ".join(row) for row in self.rows)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag in ("tr", "p", "h2", "h3", "pre", "summary"):
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.rows and data.strip():
            self.rows[-1].append(" ".join(data.split()))


def made(tmp_path, *folders):
    written = report_page.report(folders, tmp_path / "out" / "r.html")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}
    return Page(written[0]), [card.read_text() for card in written[1:]]


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    run = trained(tmp_path / "a")
    evaluated(run, verdict=VERDICT, **{"pgd40_at_0.1": 0.4, "autoattack_at_0.1": 0.0})
    (run / "figures").mkdir()
    for name in ("attacked", "verdict", "jacobians"):
        (run / "figures" / f"{name}.png").write_bytes(b"\x89PNG")
    page, _ = made(tmp_path, run)
    assert len(page.addresses) == 4  # three pictures and the chart
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "Not measured" not in page.said


def test_the_numbers_are_those_of_the_evaluation(tmp_path):
    run = evaluated(tmp_path / "a", **{"pgd40_at_0.1": 0.4, "pgd5_at_0.1": 0.6})
    page, (card,) = made(tmp_path, run)
    (row,) = [row for row in page.rows if row[0] == "1. a" and len(row) > 2]
    # 0.4 of 50: 0.40713 -+ 0.13105 by Wilson's formula.
    assert row[row.index("L∞ 0.1") + 1 :][:3] == ["40.0 %", "[27.6, 53.8]", "pgd40, 50 images"]
    assert "| pgd40 | L∞ 0.1 | 40.0 % | 27.6 to 53.8 | 50 |" in card
    assert "| pgd5 | L∞ 0.1 | 60.0 % |" in card


def test_the_same_radius_in_another_norm_is_another_radius(tmp_path):
    run = evaluated(tmp_path / "a", **{"pgd40_at_0.5": 0.0, "pgd40_at_0.5_l2": 0.8})
    page, (card,) = made(tmp_path, run)
    assert "| L∞ 0.5 | 0.0 % |" in card and "| L2 0.5 | 80.0 % |" in card
    assert len(page.addresses) == 2  # a chart a norm


def test_what_the_verdict_broke_counts(tmp_path):
    """PGD leaves 40 %, the verdict's search without gradients one of 40 images."""
    page, (card,) = made(
        tmp_path, evaluated(tmp_path / "a", verdict=VERDICT, **{"pgd40_at_0.1": 0.4})
    )
    assert "Square (verdict) leaves 2.5 %" in page.said
    assert "Gradients are **masked**" in card


def test_names_of_strangers_are_text(tmp_path):
    run = trained(evaluated(tmp_path / HOSTILE, dataset=HOSTILE, verdict=VERDICT))
    other = evaluated(tmp_path / "b", dataset=HOSTILE, **{"pgd40_at_0.1": 0.4})
    page, cards = made(tmp_path, run, other)
    assert page.tags.count("img") == 1  # the chart
    assert HOSTILE in page.said
    for card in cards:
        assert "<img" not in card and "<script" not in card
        assert card.count("[a](b)") == card.count("\\[a](b)")


def test_what_is_missing_is_said_with_the_command(tmp_path):
    page, (card,) = made(tmp_path, trained(tmp_path / "a b"))
    for text in (page.said, card):
        assert "accuracy under AutoAttack" in text
        assert f"launch.evaluate '--workdir={tmp_path / 'a b'}' --attacks=pgd40,autoattack" in text
    page, _ = made(tmp_path, evaluated(tmp_path / "b"))
    assert "--model=FILE.keras --dataset=digits" in page.said


def test_settings_that_differ(tmp_path):
    runs = [trained(tmp_path / name, epochs=e) for name, e in (("a", 1), ("b", 2))]
    page, _ = made(tmp_path, *runs, evaluated(tmp_path / "c"))
    assert ["epochs", "1", "2", "not noted"] in page.rows
    assert not any(row[0] == "batch_size" and len(row) == 4 for row in page.rows)


def test_accuracy_by_class(tmp_path):
    run = evaluated(tmp_path / "a", examples=5)
    (run / "adversarial").mkdir()
    np.savez(
        run / "adversarial" / "epsilon_0.1.npz",
        images=np.zeros((5, 2, 2, 1), np.float32),
        labels=np.array([3, 3, 3, 7, 7]),
        right=np.array([True, False, False, False, False]),
        broken_by=np.array(["", "pgd40", "clean", "clean", "pgd40"]),
    )
    page, _ = made(tmp_path, run)
    rows = {row[0]: row for row in page.rows if len(row) == 6}
    assert [rows["3"][i] for i in (1, 2, 4)] == ["3", "66.7 %", "33.3 %"]
    assert [rows["7"][i] for i in (1, 2, 4)] == ["2", "50.0 %", "0.0 %"]


def damaged(folder):
    evaluated(folder)
    (folder / "adversarial").mkdir()
    (folder / "adversarial" / "epsilon_0.1.npz").write_bytes(b"PK")


def pickled(folder):
    evaluated(folder)
    (folder / "adversarial").mkdir()
    one = np.array([True])
    np.savez(folder / "adversarial" / "a.npz", labels=np.array([{}]), right=one, broken_by=one)


@pytest.mark.parametrize(
    ("make", "output", "said"),
    [
        (lambda folder: folder.mkdir(), "r.html", "no readable config.json or evaluation.json"),
        (lambda folder: None, "r.html", "no readable config.json or evaluation.json"),
        (damaged, "r.html", "epsilon_0.1.npz cannot be read"),
        (pickled, "r.html", "a.npz cannot be read .*allow_pickle=False"),
        (
            lambda folder: (evaluated(trained(folder)) / "evaluation.json").write_text("{}"),
            "r.html",
            "evaluation.json cannot be read",
        ),
        (evaluated, "r.pdf", "must be a file NAME.html"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_writes_nothing(tmp_path, make, output, said):
    make(tmp_path / "a")
    before = list(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=said) as error:
        report_page.report([tmp_path / "a"], tmp_path / output)
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("*")) == before
