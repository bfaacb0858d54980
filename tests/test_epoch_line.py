"""The line that is printed for each epoch."""

import types

import pytest

from jarn_tf import callbacks


def epoch_lines(monkeypatch, capsys, epochs, seconds, logs, steps=(0,), start_step=0):
    """Lines of the last epochs, each of so many seconds; a JARN's step at the ends of them."""
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("jarn_tf.callbacks.epoch_line.time", clock)
    line = callbacks.EpochLine()
    model = types.SimpleNamespace(step=0, start_step=start_step)
    line.set_model(model)
    line.set_params({"steps": None, "epochs": epochs})
    for epoch, step in enumerate(steps, epochs - len(steps)):
        line.on_epoch_begin(epoch)
        line.on_train_batch_end(0)
        clock.now += seconds
        model.step = step
        line.on_epoch_end(epoch, logs)
    return capsys.readouterr().out.splitlines()


def test_a_line_of_an_epoch_fits_a_terminal(monkeypatch, capsys):
    """The longest there is: of JARN, whose phase began in this epoch of a long run."""
    logs = {
        "loss": 12.345, "accuracy": 0.98765, "val_loss": 1.0, "val_accuracy": 0.5,
        "val_robust_accuracy": 0.25, "adversarial_loss": -12.345,
        "discriminator_real_accuracy": 0.123, "discriminator_adapted_accuracy": 1.0,
    }  # fmt: skip
    steps = range(10, 9010, 10)
    first, *_ = epoch_lines(monkeypatch, capsys, 1000, 12345.0, logs, steps, start_step=5)
    assert len(first) <= 100
    assert first == (
        "101/1000, 12345 s: loss 12.3, train 0.988, val 0.500, attacked 0.250, D 0.12/1.00, "
        "over 3083 h left"
    )


@pytest.mark.parametrize(
    ("seconds", "left"), [(59.0, "118 s"), (61.0, "2 min"), (1800.0, "60 min"), (9000.0, "5 h")]
)
def test_a_line_says_how_long_is_left(monkeypatch, capsys, seconds, left):
    lines = epoch_lines(monkeypatch, capsys, 3, seconds, {"loss": 0.5}, (4, 8, 12))
    assert lines[0].endswith(f"loss 0.5, {left} left")
    assert lines[-1].endswith("loss 0.5")


def test_a_step_that_is_compiled_is_not_expected_again(monkeypatch, capsys):
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("jarn_tf.callbacks.epoch_line.time", clock)
    line = callbacks.EpochLine()
    line.set_params({"steps": None, "epochs": 3})
    line.on_epoch_begin(0)
    for batch, seconds in enumerate((100, 2, 2, 2)):
        clock.now += seconds
        line.on_train_batch_end(batch)
    line.on_epoch_end(0)
    assert capsys.readouterr().out == "1/3, 106 s: 16 s left\n"


def test_a_line_says_that_jarn_s_phase_is_to_come(monkeypatch, capsys):
    def over(start_step):
        of = epoch_lines(monkeypatch, capsys, 4, 1.0, {}, (10, 20, 30, 40), start_step)
        return [" over " in line for line in of]

    assert over(0) == over(40) == [False] * 4  # from the first step on; never
    assert over(20) == [True, True, False, False]
    assert over(25) == [True, True, True, False]


def test_a_line_has_what_there_is(monkeypatch, capsys):
    (line,) = epoch_lines(monkeypatch, capsys, 2, 1.0, {"loss": 0.5, "penalty": 0.25})
    assert line == "2/2, 1 s: loss 0.5, penalty 0.25"
