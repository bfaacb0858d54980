"""What the binaries share: radii as flags, errors as one line."""

from __future__ import annotations

import contextlib
import fractions
import logging as standard_logging
import sys
from collections.abc import Iterator

from absl import flags, logging


class RadiusParser(flags.ArgumentParser):
    """Reads a radius written as 0.3 or as 8/255."""

    syntactic_help = "a number such as 0.3 or 8/255"

    def parse(self, argument: str | float) -> float:
        try:
            return float(argument)
        except ValueError:
            pass
        try:
            return float(fractions.Fraction(argument))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{argument!r} is not {self.syntactic_help}") from None

    def flag_type(self) -> str:
        return "radius"


class RadiiParser(flags.ArgumentParser):
    """Reads radii separated by commas."""

    syntactic_help = "numbers such as 0.1,0.3 or 8/255"

    def parse(self, argument: str) -> list[float]:
        return [RadiusParser().parse(part) for part in argument.split(",")]

    def flag_type(self) -> str:
        return "radii"


class SeedsParser(flags.ArgumentParser):
    """Reads seeds separated by commas."""

    syntactic_help = "whole numbers such as 0,1,2"

    def parse(self, argument: str) -> tuple[int, ...]:
        try:
            return tuple(int(part) for part in argument.split(","))
        except ValueError:
            raise ValueError(f"{argument!r} is not {self.syntactic_help}") from None

    def flag_type(self) -> str:
        return "seeds"


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what `jarn_tf` raises for bad input into one line on stderr and exit status 1.

    Ctrl-C likewise, with status 130.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's notes on devices and files
    standard_logging.getLogger("tensorflow").addFilter(_is_no_note_on_retracing)
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("Interrupted. The same command again continues.", file=sys.stderr)
        sys.exit(130)


def _is_no_note_on_retracing(record: standard_logging.LogRecord) -> bool:
    """Every model needs its own trace, and an attack on few images few calls of it."""
    return "triggered tf.function retracing" not in record.getMessage()
