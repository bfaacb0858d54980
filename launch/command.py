"""What the binaries share: flags from declarations, lists as flags, errors as one line."""

from __future__ import annotations

import contextlib
import importlib
import logging as standard_logging
import os
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import app, flags, logging

from jarn_tf.runs import settings
from jarn_tf.runs.config import declarations

flags.disclaim_key_flags()  # so that --help of a command lists the flags that are defined for it


class Parser(flags.ArgumentParser):
    """An absl parser of a function from text to value; the function raises ValueError."""

    def __init__(self, read: Callable[[str], Any], kind: str):
        self.read = read
        self.kind = kind
        self.syntactic_help = kind

    def parse(self, argument: Any) -> Any:
        return self.read(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return self.kind


class Words(flags.EnumParser):
    """absl's parser of one of some words, with the line that everything else here has."""

    def parse(self, argument: str) -> str:
        if argument not in self.enum_values:
            raise ValueError(f"it must be one of {', '.join(self.enum_values)}")
        return argument


def define_import() -> None:
    """The flag --import, for `import_modules`."""
    flags.DEFINE_list("import", [], "Modules to import first, which register a model's classes.")


def import_modules() -> None:
    """Imports what --import names, also from the working directory.

    Raises:
        ValueError: A module that cannot be imported.
    """
    sys.path.insert(0, "")  # as `python -m` has it, a console command not
    for name in flags.FLAGS["import"].value:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module of the user's raises
            raise ValueError(f"--import={name} cannot be imported: {error}") from None


def define_setting(name: str, help: str | None = None) -> None:
    """A flag for a setting of a run, unset unless given; its help unless another is given."""
    declared = declarations()[name]
    help = help or declared.help
    if declared.kind is settings.TRUTH:
        flags.DEFINE_bool(name, None, help)
    elif declared.kind.choices:
        flags.DEFINE(Words(declared.kind.choices), name, None, help)
    else:
        flags.DEFINE(Parser(declared.kind.parse, declared.kind.takes), name, None, help)


def given(names: Iterable[str]) -> dict[str, Any]:
    """Name to value of those flags that are set."""
    values = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}


def define_list(name: str, read: Callable[[str], Any], takes: str, help: str) -> None:
    """A flag of values separated by commas, unset unless given."""

    def read_all(text: str) -> tuple:
        try:
            return tuple(read(part) for part in text.split(","))
        except ValueError:
            raise ValueError(f"{text!r} is not {takes}") from None

    flags.DEFINE(Parser(read_all, takes), name, None, help)


def run(module: types.ModuleType) -> None:
    """Runs a module's `main`, started as a module or a console command; --help lists its flags."""
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    signal.signal(signal.SIGTERM, _stop)
    with _quiet_once_nobody_reads():
        app.run(module.main)


def _stop(number: int, frame: types.FrameType | None) -> None:
    """What SIGTERM does where `callbacks.Backup` has nothing to save; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    print("Stopped. The same command again continues.", file=sys.stderr)
    sys.exit(0)


@contextlib.contextmanager
def _quiet_once_nobody_reads() -> Iterator[None]:
    """Ends as a Unix tool does once standard output is closed, such as by `| head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


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
    except BrokenPipeError:  # for `run`
        raise
    except (ValueError, OSError) as error:
        line = textwrap.shorten(str(error), 4000)  # files and folders may have any content and name
        sys.exit(f"Error: {''.join(filter(str.isprintable, line))}")
    except KeyboardInterrupt:
        print("Interrupted. The same command again continues.", file=sys.stderr)
        sys.exit(130)


def _is_no_note_on_retracing(record: standard_logging.LogRecord) -> bool:
    """Every model needs its own trace, and an attack on few images few calls of it."""
    return "triggered tf.function retracing" not in record.getMessage()
