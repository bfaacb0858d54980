"""Several evaluations in one `evaluation.json`."""

import json

import pytest
import toys

from jarn_tf.evaluation import Attack
from jarn_tf.files import read_json
from jarn_tf.runs import evaluations

FGSM, PGD = Attack("fgsm", 0.1), Attack("pgd5", 0.1)


def evaluation(
    *attacks, examples=10, model="a", dataset="digits", data=None, accuracy=0.5, verdict=None
):
    rows = [Attack("clean", 0.0), *attacks]
    rows = [attack.row() | {"accuracy": accuracy, "seconds": 1.0} for attack in rows]
    found = {
        "dataset": dataset, "examples": examples, "attacks": rows, "saliency": toys.SALIENCY,
        "collapsed_to_class": None, "model": model,
    }  # fmt: skip
    found |= {} if data is None else {"data": data}
    judged = {"epsilon": verdict, "examples": examples, "label": "masked", "evidence": []}
    return found | ({"verdict": judged} if verdict else {})


def test_the_newest_stands_on_top_and_the_others_below(tmp_path):
    first, second, third = evaluation(FGSM), evaluation(PGD), evaluation(PGD, examples=5)
    for found in (first, second, third):
        evaluations.add(tmp_path, found)
    content = read_json(tmp_path / "evaluation.json")
    assert content == third | {"earlier": [second, first]}
    assert evaluations.read(tmp_path) == [third, second, first]


def test_one_that_asks_the_same_is_replaced(tmp_path):
    for found in (evaluation(FGSM), evaluation(PGD), evaluation(FGSM, accuracy=0.25)):
        evaluations.add(tmp_path, found)
    assert evaluations.read(tmp_path) == [evaluation(FGSM, accuracy=0.25), evaluation(PGD)]


@pytest.mark.parametrize("other", [{"model": "b"}, {"dataset": "mnist"}])
def test_those_of_another_classifier_or_dataset_are_put_aside(tmp_path, capsys, other):
    evaluations.add(tmp_path, evaluation(FGSM))
    before = (tmp_path / "evaluation.json").read_bytes()
    evaluations.add(tmp_path, evaluation(PGD, **other))
    assert evaluations.read(tmp_path) == [evaluation(PGD, **other)]
    assert (tmp_path / "evaluation.1.json").read_bytes() == before
    (line,) = capsys.readouterr().err.splitlines()
    assert "another classifier" in line and "evaluation.1.json" in line


def test_other_images_under_the_same_name_are_another_dataset(tmp_path):
    old, more = evaluation(PGD), evaluation(FGSM, data="more", examples=20)
    for found in (old, evaluation(FGSM, data="as then"), more):
        evaluations.add(tmp_path, found)
    assert len(evaluations.read(tmp_path)) == 3  # digests are of the images that were attacked
    now = evaluation(PGD, data="as now")
    evaluations.add(tmp_path, now)
    assert evaluations.read(tmp_path) == [now, more]
    assert (tmp_path / "evaluation.1.json").exists()


def test_rows_with_and_without_an_interval_ask_the_same(tmp_path):
    """As files made before there were intervals."""
    evaluations.add(tmp_path, evaluation(FGSM))
    new = evaluation(FGSM)
    for row in new["attacks"]:
        row |= {"examples": 10, "interval": [0.2, 0.8]}
    assert evaluations.find(tmp_path, [FGSM], 10, 10) == evaluation(FGSM)
    evaluations.add(tmp_path, new)
    assert evaluations.read(tmp_path) == [new]


def test_find_takes_those_of_the_classifier_alone(tmp_path):
    evaluations.add(tmp_path, evaluation(FGSM))
    assert evaluations.find(tmp_path, [FGSM], 10, 10, model="a") == evaluation(FGSM)
    assert evaluations.find(tmp_path, [FGSM], 10, 10, model="b") is None


def test_files_from_before_there_were_norms_are_of_linf(tmp_path):
    """And an L2 evaluation of the same radius stays beside one of L-infinity."""
    old = evaluation(FGSM)
    for row in old["attacks"]:
        del row["norm"]
    (tmp_path / "evaluation.json").write_text(json.dumps(old))
    assert evaluations.find(tmp_path, [FGSM], 10, 10) == old
    in_l2 = evaluation(Attack("fgsm", 0.1, norm="l2"))
    for found in (in_l2, evaluation(FGSM)):
        evaluations.add(tmp_path, found)
    assert evaluations.read(tmp_path) == [evaluation(FGSM), in_l2]


def test_one_without_a_digest_is_kept(tmp_path):
    """As files made before there was one."""
    old = evaluation(FGSM)
    del old["model"]
    (tmp_path / "evaluation.json").write_text(json.dumps(old))
    evaluations.add(tmp_path, evaluation(PGD))
    assert evaluations.read(tmp_path) == [evaluation(PGD), old]


def test_find_takes_what_asked_just_this(tmp_path):
    both, judged = evaluation(FGSM, PGD), evaluation(FGSM, verdict=0.1)
    for found in (both, judged, evaluation(PGD, examples=5)):
        evaluations.add(tmp_path, found)
    assert evaluations.find(tmp_path, [FGSM, PGD], 10, 10) == both
    assert evaluations.find(tmp_path, [FGSM], 10, 10) == judged
    assert evaluations.find(tmp_path, [FGSM], 10, 10, verdict_epsilon=0.1) == judged
    for asked in (
        ([FGSM], 5, 10),
        ([PGD], 10, 10),
        ([Attack("fgsm", 0.2)], 10, 10),
        ([FGSM], 10, 10, 0.3),
        ([Attack("pgd5", 0.1, seed=1)], 5, 10),
        ([Attack("pgd5", 0.1, restarts=2)], 5, 10),
    ):
        assert evaluations.find(tmp_path, *asked) is None, asked


DAMAGED = ["", "[]", "3", '{"attacks": []}', '{"earlier": 3}', '{"attacks": [1]}', "garbage{"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_cannot_be_read_holds_nothing_and_is_kept(tmp_path, content, capsys):
    (tmp_path / "evaluation.json").write_text(content)
    assert evaluations.read(tmp_path) == []
    evaluations.add(tmp_path, evaluation(FGSM))
    assert evaluations.read(tmp_path) == [evaluation(FGSM)]
    assert (tmp_path / "evaluation.1.json").read_text() == content
    assert "damage" in capsys.readouterr().err


def test_no_file_holds_nothing(tmp_path, capsys):
    assert evaluations.read(tmp_path) == []
    evaluations.add(tmp_path, evaluation(FGSM))
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "damage", [3, {}, {"attacks": [1]}, {"attacks": [{"name": "fgsm"}]}, {"verdict": "masked"}]
)
def test_damage_to_one_leaves_the_others(tmp_path, damage):
    for found in (evaluation(FGSM), evaluation(PGD)):
        evaluations.add(tmp_path, found)
    content = read_json(tmp_path / "evaluation.json")
    spoilt = evaluation(FGSM, examples=5) | damage if damage and damage != 3 else damage
    content["earlier"].insert(0, spoilt)
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    assert evaluations.read(tmp_path) == [evaluation(PGD), evaluation(FGSM)]
    evaluations.add(tmp_path, evaluation(PGD, examples=3))
    assert evaluations.read(tmp_path)[1:] == [evaluation(PGD), evaluation(FGSM)]
    assert (tmp_path / "evaluation.1.json").exists()
