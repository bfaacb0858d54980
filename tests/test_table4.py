"""Table 4: seconds of steps and epochs."""

import pytest
import toys
from reproducing import make, means, numbers

from jarn_tf import JARN, InputGradientPenalty, data
from jarn_tf.reproduction import reproducing, table4


@pytest.fixture
def no_dataset(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("loaded a dataset"))


@pytest.mark.slow
def test_table_4_is_seconds_and_their_ratios(no_dataset, tmp_path):
    reproducing.reproduce(make(tmp_path, "table4", rows=("pgd_at", "jarn")))
    found = means(tmp_path, "table4")
    pgd = "pgd_at, mnist_cnn"
    for row in ("jarn, mnist_cnn", pgd):
        for column in ("active step", "epoch"):
            seconds = found[row, f"{column}, s"]
            assert seconds > 0
            ratio = found[row, f"{column} / PGD-AT7"]
            assert ratio == pytest.approx(seconds / found[pgd, f"{column}, s"])


@pytest.fixture
def seconds_of_steps(monkeypatch):
    """Table 4 with steps that take so many seconds, by their kind."""

    def set_to(**seconds):
        monkeypatch.setattr(
            table4, "_medians", lambda steps, rounds: {key: seconds[key[1]] for key in steps}
        )

    return set_to


def test_an_epoch_costs_what_its_kinds_of_steps_add_up_to(seconds_of_steps, no_dataset, tmp_path):
    """Over a whole run, step by step as JARN picks their kinds; no dataset is needed for it."""
    kinds = {JARN.CLASSIFIER: 1.0, JARN.ADVERSARIAL: 3.0, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 7.0}
    seconds_of_steps(**kinds)
    setting = make(tmp_path, "table4", rows=("pgd_at", "jarn"))
    reproducing.reproduce(setting)
    run = setting.config("jarn", 0)
    steps_per_epoch, epochs = 1_294 // run.batch_size, 400
    model = JARN(
        toys.classifier(),
        toys.adaptor(),
        toys.discriminator(),
        start_step=round(run.jarn_start_fraction * epochs * steps_per_epoch),
        discriminator_interval=run.discriminator_interval,
    )
    total = sum(kinds[model.kind_of_step(step)] for step in range(epochs * steps_per_epoch))
    found = means(tmp_path, "table4")
    assert found["jarn, mnist_cnn", "epoch, s"] == pytest.approx(total / epochs, rel=1e-3)
    assert found["pgd_at, mnist_cnn", "epoch, s"] == pytest.approx(steps_per_epoch)
    assert found["jarn, mnist_cnn", "active step, s"] == pytest.approx((9 * 3 + 7) / 10)


@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_table_4_of_a_term_that_rests(seconds_of_steps, no_dataset, tmp_path, preset):
    """On CIFAR-10's compact network, where `recommended` has it on every 4th step."""
    kinds = {JARN.CLASSIFIER: 1.0, JARN.ADVERSARIAL: 3.0, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 7.0}
    seconds_of_steps(**kinds, **{InputGradientPenalty.RESTING: 0.5})
    options = {"dataset": "cifar10", "scale": "small", "preset": preset}
    setting = make(tmp_path, "table4", rows=("jarn", "double_backprop"), **options)
    reproducing.reproduce(setting)
    found = means(tmp_path, "table4")
    lazy = preset == "recommended"  # the discriminator learns on every second of those steps
    expected = (3 * 1 + 3 + 3 * 1 + 7) / 8 if lazy else (19 * 3 + 7) / 20
    assert found["jarn, compact_cnn", "active step, s"] == pytest.approx(expected)
    expected = (1 + 3 * 0.5) / 4 if lazy else 1
    assert found["double_backprop, compact_cnn", "active step, s"] == pytest.approx(expected)


@pytest.mark.parametrize("rows", [("standard",), ("jarn", "fgsm_at")])
def test_table_4_measures_pgd_at_too_which_its_ratios_are_to(seconds_of_steps, tmp_path, rows):
    kinds = (JARN.CLASSIFIER, JARN.ADVERSARIAL, JARN.ADVERSARIAL_AND_DISCRIMINATOR)
    seconds_of_steps(**dict.fromkeys(kinds, 2.0))
    reproducing.reproduce(make(tmp_path, "table4", rows=rows))
    found = means(tmp_path, "table4")
    assert {row for row, _ in found} == {f"{row}, mnist_cnn" for row in (*rows, "pgd_at")}
    for row in rows:
        assert found[f"{row}, mnist_cnn", "epoch / PGD-AT7"] == pytest.approx(1)


def test_table_4_measures_rows_that_its_file_lacks(seconds_of_steps, tmp_path):
    seconds_of_steps(**{JARN.CLASSIFIER: 1.0})
    reproducing.reproduce(make(tmp_path, "table4", rows=("pgd_at", "standard")))
    reproducing.reproduce(make(tmp_path, "table4", rows=("pgd_at", "fgsm_at")))
    assert ("fgsm_at, mnist_cnn", "epoch, s") in numbers(tmp_path, "table4")
