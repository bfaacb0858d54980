"""The commands, started as a user starts them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments, **options):
    """What Python with these arguments prints and ends with, from the checkout's root."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, **options
    )


def launch(module, *arguments):
    """Runs `python -m launch.MODULE` and expects it to succeed."""
    done = run("-m", f"launch.{module}", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done
