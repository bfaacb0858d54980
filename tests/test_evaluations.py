"""Several evaluations in one `evaluation.json`."""

import json

import pytest

from jarn_tf.evaluation import Attack
from jarn_tf.runs import evaluations

FGSM, PGD = Attack("fgsm", 0.1), Attack("pgd5", 0.1)


def evaluation(*attacks, examples=10, model="a", dataset="digits", accuracy=0.5, verdict=None):
    rows = [Attack("clean", 0.0), *attacks]
    rows = [attack.row() | {"accuracy": accuracy, "seconds": 1.0} for attack in rows]
    found = {
        "dataset": dataset, "examples": examples, "attacks": rows, "saliency": {},
        "collapsed_to_class": None, "model": model,
    }  # fmt: skip
    return found | ({"verdict": {"epsilon": verdict}} if verdict else {})


def test_the_newest_stands_on_top_and_the_others_below(tmp_path):
    first, second, third = evaluation(FGSM), evaluation(PGD), evaluation(PGD, examples=5)
    for found in (first, second, third):
        evaluations.add(tmp_path, found)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content == third | {"earlier": [second, first]}
    assert evaluations.read(tmp_path) == [third, second, first]


def test_one_that_asks_the_same_is_replaced(tmp_path):
    for found in (evaluation(FGSM), evaluation(PGD), evaluation(FGSM, accuracy=0.25)):
        evaluations.add(tmp_path, found)
    assert evaluations.read(tmp_path) == [evaluation(FGSM, accuracy=0.25), evaluation(PGD)]


@pytest.mark.parametrize("other", [{"model": "b"}, {"dataset": "mnist"}])
def test_those_of_another_classifier_or_dataset_are_dropped(tmp_path, other):
    evaluations.add(tmp_path, evaluation(FGSM))
    evaluations.add(tmp_path, evaluation(PGD, **other))
    assert evaluations.read(tmp_path) == [evaluation(PGD, **other)]


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


@pytest.mark.parametrize("content", [None, "", "[]", "3", '{"attacks": []}', '{"earlier": 3}'])
def test_a_file_that_is_none_or_cannot_be_read_holds_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    assert evaluations.read(tmp_path) == []
    evaluations.add(tmp_path, evaluation(FGSM))
    assert evaluations.read(tmp_path) == [evaluation(FGSM)]
