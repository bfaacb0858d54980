"""The page and the model cards, of folders that were never trained."""

import base64
import html.parser
import json

import numpy as np
import pytest
import toys

from jarn_tf.evaluation.curves import COLORS
from jarn_tf.runs import report_page
from jarn_tf.runs.presets import preset

HOSTILE = "<img src=x onerror=alert(1)> `|[a](b) $\\frac$"
VERDICT = {
    "label": "masked", "epsilon": 0.1, "examples": 40,
    "accuracies": {"PGD-40": {"0.0": 0.9, "0.1": 0.5}, "Square": {"0.0": 0.9, "0.1": 0.025}},
    "evidence": [{"name": "zero gradients", "label": "masked", "finding": "</td><script>"}],
}  # fmt: skip


def evaluated(folder, examples=50, verdict=None, dataset="digits", command=None, **accuracies):
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
        "versions": {"keras": "3.15", "jarn_tf": "0.1"}, "command": command,
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
        text = "".join(card.split("```")[::2])
        assert "<img" not in text and "<script" not in text
        assert text.count("[a](b)") == text.count("\\[a](b)")


def test_what_is_missing_is_said_with_the_command(tmp_path):
    page, (card,) = made(tmp_path, trained(tmp_path / "a b"))
    for text in (page.said, card):
        assert "accuracy under AutoAttack" in text
        assert f"launch.evaluate '--workdir={tmp_path / 'a b'}' --attacks=pgd40,autoattack" in text
    page, _ = made(tmp_path, evaluated(tmp_path / "b"))
    assert "--model=FILE.keras --dataset=digits" in page.said


@pytest.mark.parametrize(
    ("noted", "completed"),
    [
        (
            "--model='a & b.keras' --output=o --pixel_scale=255 --import=mine --attacks pgd5",
            "'--model=a & b.keras' --output=o --pixel_scale=255 --import=mine "
            "--attacks=pgd5,autoattack --verdict",
        ),
        (
            "--workdir=r --examples=9",
            "--workdir=r --examples=9 --attacks=fgsm,pgd40,autoattack --v",
        ),
        (
            "--workdir=r --attacks=pgd5 --norm=l2 --epsilon=0.5",
            "--workdir=r --attacks=pgd5,autoattack --verdict",
        ),
    ],
)
def test_the_command_is_the_noted_one_with_what_is_missing(tmp_path, noted, completed):
    command = f"python -m launch.evaluate {noted}"
    page, (card,) = made(tmp_path, evaluated(tmp_path / "a", command=command))
    assert completed in page.said and completed in card


def test_any_version_of_autoattack_is_autoattack(tmp_path):
    command = "python -m launch.evaluate --workdir=r --attacks=autoattack --version=rand"
    run = evaluated(tmp_path / "a", command=command, **{"autoattack rand_at_0.1": 0.3})
    page, _ = made(tmp_path, run)
    assert "accuracy under AutoAttack" not in page.said
    assert f"{command} --verdict" in page.said


def test_no_command_ends_the_block_of_code(tmp_path):
    _, (card,) = made(tmp_path, evaluated(tmp_path / "a", command=" ```a\n```"))
    assert card.count("```") == 5 and card.count("\n```") == 4  # two blocks


def test_warnings_of_the_newest_evaluation(tmp_path):
    run = evaluated(tmp_path / "a")
    found = json.loads((run / "evaluation.json").read_text())
    found |= {"collapsed_to_class": 3, "accuracy_on_255": 0.875}
    (run / "evaluation.json").write_text(json.dumps(found))
    page, (card,) = made(tmp_path, run)
    for text in (page.said, card):
        assert "Every test image is taken for class 3" in text and "87.50% of the first" in text


def test_an_attack_on_fewer_images_has_their_clean_accuracy(tmp_path):
    """The verdict is of 40 images, of which 75 % are classified right, the rest of 50."""
    verdict = VERDICT | {"accuracies": {"PGD-40": {"0.0": 0.75, "0.1": 0.5}}}
    page, (card,) = made(tmp_path, evaluated(tmp_path / "a", verdict=verdict))
    assert "PGD-40 (verdict) leaves 50.0 % [35.2, 64.8] of 40 (clean 75.0 %)" in page.said
    assert "50.0 % (clean 75.0 %)" in card


def test_a_run_has_one_colour_in_all_charts(tmp_path):
    """Only the second run was attacked in L2."""
    page, _ = made(
        tmp_path,
        evaluated(tmp_path / "a", **{"pgd40_at_0.1": 0.4}),
        evaluated(tmp_path / "b", **{"pgd40_at_0.1": 0.3, "pgd40_at_0.5_l2": 0.3}),
    )
    l2, linf = (base64.b64decode(address.partition(",")[2]).decode() for address in page.addresses)
    colours = [{color for color in COLORS[:2] if color.lower() in chart} for chart in (l2, linf)]
    assert colours == [{COLORS[1]}, set(COLORS[:2])]


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
    assert ["class", "images", "clean", "L∞ 0.1"] in page.rows
    rows = {row[0]: row for row in page.rows if len(row) == 6}
    assert [rows["3"][i] for i in (1, 2, 4)] == ["3", "66.7 %", "33.3 %"]
    assert [rows["7"][i] for i in (1, 2, 4)] == ["2", "50.0 %", "0.0 %"]


def damaged(folder):
    evaluated(folder)
    (folder / "adversarial").mkdir()
    (folder / "adversarial" / "epsilon_0.1.npz").write_bytes(b"PK")


def of_many_classes(folder):
    evaluated(folder)
    (folder / "adversarial").mkdir()
    rows = np.arange(200_000)
    np.savez(folder / "adversarial" / "a.npz", labels=rows, right=rows > 1, broken_by=rows > 1)


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
        (of_many_classes, "r.html", "200000 classes"),
        (
            lambda folder: evaluated(folder, **{"pgd5_at_nan": 0.1}),
            "r.html",
            "epsilon must be .* Received: nan[.] Name",
        ),
        (
            lambda folder: evaluated(folder, **{f"pgd5_at_{i}_l2": 0.1 for i in range(1, 102)}),
            "r.html",
            "102 radii, of at most 100",
        ),
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
