import json

import keras
import numpy as np
import pytest
import toys

from jarn_tf import evaluation
from jarn_tf.evaluation import Attack

ATTACKS = [Attack("fgsm", 8 / 255), Attack("pgd2", 8 / 255)]


def collapsed(to):
    """Every image is taken for one class."""
    kernel = np.zeros((int(np.prod(toys.IMAGE_SHAPE)), toys.CLASSES), np.float32)
    return toys.linear_classifier(kernel, np.eye(toys.CLASSES, dtype=np.float32)[to])


def nearly_collapsed(to):
    """Its logits differ from image to image, the largest is the same."""
    model = toys.classifier()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.01 * kernel, bias + np.eye(toys.CLASSES)[to]])
    return model


@pytest.mark.parametrize("to", range(toys.CLASSES))
@pytest.mark.parametrize("classifier", [collapsed, nearly_collapsed])
def test_a_collapsed_classifier_is_named(classifier, to):
    images, labels = toys.batch(9)
    found = evaluation.report(classifier(to), images, labels, ATTACKS)
    assert found["collapsed_to_class"] == to
    assert found["attacks"][0]["accuracy"] == pytest.approx((labels == to).mean())
    (line,) = [line for line in evaluation.report_text(found).splitlines() if "collapsed" in line]
    assert "Warning" in line and str(to) in line


def test_a_classifier_that_tells_one_image_apart_has_not_collapsed():
    images = np.zeros((9, *toys.IMAGE_SHAPE), np.float32)
    images[-1, 0, 0, 0] = 1
    kernel = np.zeros((int(np.prod(toys.IMAGE_SHAPE)), toys.CLASSES), np.float32)
    kernel[0, 1] = 2
    model = toys.linear_classifier(kernel, np.float32([1, 0, 0]))
    labels = np.arange(9, dtype=np.int32) % toys.CLASSES
    found = evaluation.report(model, images, labels, ATTACKS)
    assert found["collapsed_to_class"] is None
    assert "collapsed" not in evaluation.report_text(found)


@pytest.mark.parametrize("label", range(toys.CLASSES))
def test_images_of_one_label_show_no_collapse(label):
    images, _ = toys.batch(4)
    labels = np.full(4, label, np.int32)
    found = evaluation.report(collapsed(1), images, labels, ATTACKS)
    assert found["collapsed_to_class"] is None
    assert "collapsed" not in evaluation.report_text(found)


def test_only_class_looks_at_every_batch():
    images = np.zeros((7, *toys.IMAGE_SHAPE), np.float32)
    images[-1] = 1
    kernel = np.zeros((int(np.prod(toys.IMAGE_SHAPE)), 2), np.float32)
    kernel[:, 1] = 1
    model = toys.linear_classifier(kernel, np.float32([1, 0]))
    assert evaluation.only_class(model, images, batch_size=3) is None
    assert evaluation.only_class(model, images[:6], batch_size=3) == 0


@pytest.mark.parametrize("model", [lambda: collapsed(2), toys.classifier])
def test_a_report_is_strict_json(model):
    """Without Infinity or NaN, which other readers of JSON refuse."""
    images, labels = toys.batch(9)
    found = evaluation.report(model(), images, labels, ATTACKS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_report_begins_with_clean_accuracy_and_counts_the_images(digits_classifier, digits):
    images, labels = digits.test.floats[:90], digits.test.labels[:90]
    found = evaluation.report(digits_classifier, images, labels, ATTACKS)
    predicted = keras.ops.argmax(digits_classifier(images), axis=1)
    assert found["examples"] == 90
    assert [row["name"] for row in found["attacks"]] == ["clean", "fgsm", "pgd2", "worst_case"]
    assert found["attacks"][0]["accuracy"] == pytest.approx((predicted == labels).numpy().mean())
    assert found["collapsed_to_class"] is None


def test_text_shows_every_attack_with_its_radius():
    images, labels = toys.batch(8)
    model = toys.classifier()
    found = evaluation.report(model, images, labels, ATTACKS)
    lines = {line.split()[0]: line.split() for line in evaluation.report_text(found).splitlines()
             if line}  # fmt: skip
    assert lines["Accuracy"][2] == "8"
    for row in found["attacks"]:
        _, epsilon, restarts, accuracy, *interval, _ = lines[row["name"]]
        assert accuracy == f"{100 * row['accuracy']:.2f}%"
        ends = np.float64([end.strip("[],") for end in interval]) / 100
        np.testing.assert_allclose(ends, row["interval"], atol=6e-4)
        if row["name"] == "clean":
            assert (epsilon, restarts) == ("-", "-")
        else:
            assert float(epsilon) == pytest.approx(8 / 255, rel=1e-5)
    assert lines["pgd2"][2] == "1"


def test_the_norm_is_said_where_it_is_not_l_infinity():
    images, labels = toys.batch(8)
    found = evaluation.report(
        toys.classifier(), images, labels, [Attack("fgsm", 0.1), Attack("fgsm", 0.1, norm="l2")]
    )
    for text in (evaluation.report_text(found), evaluation.report_markdown(found)):
        assert text.count("fgsm (L2)") == 1
    sentence = " ".join(evaluation.report_markdown(found).split("|")[0].split())
    assert ". At epsilon 0.1 fgsm leaves" in sentence
    assert ". At L2 epsilon 0.1 fgsm leaves" in sentence


def test_markdown_shows_every_attack_and_the_warnings():
    images, labels = toys.batch(8)
    found = evaluation.report(collapsed(1), images, labels, ATTACKS)
    lines = evaluation.report_markdown(found).splitlines()
    for row in found["attacks"]:
        (line,) = [line for line in lines if line.startswith(f"| {row['name']} |")]
        assert line.split(" | ")[3] == f"{row['accuracy']:.2%}"
    assert any("collapsed" in line and "class 1" in line for line in lines)
    assert "Gradient masking" not in "".join(lines)


def test_text_of_a_constant_classifier_calls_the_distance_infinite():
    images, labels = toys.batch(8)
    text = evaluation.report_text(evaluation.report(collapsed(0), images, labels, ATTACKS))
    (line,) = [line for line in text.splitlines() if "rho" in line]
    assert line.split()[-1] == "infinite"


@pytest.mark.parametrize("classes, told", [(2, 3), (3, 2), (4, 0)])
def test_what_is_run_in_place_of_dlr_is_said(classes, told):
    """DLR needs three classes, its targeted form, in AutoAttack too, four."""
    model = toys.classifier(classes=classes)
    images, labels = toys.batch(4, classes=classes)
    attacks = [Attack(name, 0.01) for name in ("apgd_ce", "apgd_dlr", "apgd_t", "autoattack")]
    found = evaluation.report(model, images, labels, attacks)
    assert evaluation.report_text(found).count("Note: the margin is climbed") == told
    losses = {row["name"]: row.get("loss") for row in found["attacks"]}
    assert losses["apgd_dlr"] == ("dlr" if classes >= 3 else "margin")
    assert losses["apgd_t"] == ("dlr" if classes >= 4 else "margin")
