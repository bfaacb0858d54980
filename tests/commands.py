"""The commands, started as a user starts them."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # the commands choose what is written


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


def start_workers(*commands):
    """Starts a process for each list of Python's arguments, all workers of one cluster."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in commands]
        addresses = ["{}:{}".format(*server.getsockname()) for server in servers]
    started = []
    for index, arguments in enumerate(commands):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | {"TF_CONFIG": json.dumps(task)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )
    return started, addresses


def in_one_process(module, calls, **environment):
    """Name of a call to what it printed and what it stopped with; one start for all of them."""
    program = """
import contextlib, importlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
from jarn_tf.runs import training

training.train = lambda *args: sys.exit("trained")
module = importlib.import_module(f"launch.{sys.argv[1]}")
found = {}
for name, arguments in json.loads(sys.argv[2]).items():
    printed, stopped = io.StringIO(), ""
    try:
        with flagsaver.flagsaver(), contextlib.redirect_stdout(printed):
            flags.FLAGS([sys.argv[1], *arguments])
            module.main([sys.argv[1]])
    except (SystemExit, flags.Error) as error:
        stopped = str(error)
    except Exception as error:
        stopped = f"Traceback: {error!r}"
    found[name] = printed.getvalue(), stopped
print("FOUND", json.dumps(found))
"""
    done = run("-c", program, module, json.dumps(calls), env=os.environ | environment, check=True)
    return json.loads(done.stdout.rpartition("FOUND ")[2])


def assert_one_line(message, *parts):
    assert "Traceback" not in message and message != "trained"
    assert "\n" not in message.strip()
    for part in parts:
        assert part in message
