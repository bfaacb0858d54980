"""Damages the files of runs, evaluations and experiments, one at a time, and calls again. Linux.

A bit of a file is flipped, or the file is cut, in a copy of a folder: of a run that was stopped
within an epoch, which then goes on; of a finished run, which is evaluated again; of an experiment
of `launch.reproduce`, which then makes what is missing. Printed is what came of it:

    refused     in one line, with status 1
    said        something of it was printed
    harmless    the end is that of undamaged files
    other end   another end without a word
    traceback   an error of another kind

Run as `python -m benchmarks.corruption --flips=200 --cuts=50`.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import random
import re
import shutil
import signal
import tempfile

from benchmarks import timing
from benchmarks.reliability import attempt, outcome, reproduce, train
from jarn_tf.evaluation import Attack
from jarn_tf.runs import evaluating

SEED = 0
OUTCOMES = ("refused", "said", "harmless", "other end", "traceback")


def evaluate(folder: pathlib.Path) -> None:
    target = evaluating.finished_run(folder)
    evaluating.evaluate(target, [Attack("pgd10", 0.1)])


def damaged(content: bytes, cut: bool, generator: random.Random) -> bytes:
    """What is left of a file that is cut, or has one of its bits flipped."""
    content = bytearray(content)
    place = generator.randrange(len(content))
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << generator.randrange(8)
    return bytes(content)


def said(folder: pathlib.Path) -> str:
    """What a call printed, without what differs between any two."""
    text = pathlib.Path(f"{folder}.log").read_text(errors="replace")
    lines = [line for line in text.splitlines() if not re.match(r"[EWI]\d{4} |WARNING", line)]
    return re.sub(r"[\d.]+( s\b| min\b)|\d+\.\d$", "", "\n".join(lines).replace(str(folder), ""))


def result(folder: pathlib.Path) -> str:
    """Weights, slots and tables, and the accuracies of every evaluation."""
    found = [outcome(folder)]
    for path in sorted(folder.rglob("evaluation.json")):
        found += re.findall(r'"(?:name|accuracy)": .*', path.read_text(errors="replace"))
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=50)
    arguments = parser.parse_args()
    timing.print_circumstances(SEED)
    generator = random.Random(SEED)
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sources = _sources(folder)
        expected = {}
        for work, source in sources.items():
            copy = folder / "run"
            shutil.copytree(source, copy)
            assert not attempt(work, copy, None)
            expected[work] = said(copy), result(copy)
            _clean(copy)
        for number in range(arguments.flips + arguments.cuts):
            work, source = generator.choice(list(sources.items()))
            copy = folder / "run"
            shutil.copytree(source, copy)
            files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
            path = generator.choice([path for path in files if path.stat().st_size])
            whole = path.read_bytes()
            spoilt = damaged(whole, number >= arguments.flips, generator)
            path.write_bytes(spoilt)
            status = attempt(work, copy, None)
            if path.exists() and path.read_bytes() == spoilt:  # left alone; `result` reads it
                path.write_bytes(whole)
            kind = _kind(status, copy, *expected[work])
            name = path.name if path.suffix in (".json", ".csv", ".keras") else path.suffix
            found[f"{work.__name__}, {name}"][kind] += 1
            print(".", end="", flush=True)
            if kind in OUTCOMES[-2:]:
                print(f"{kind}: {work.__name__} {path.relative_to(copy)}\n{said(copy)[-500:]}")
            _clean(copy)
    print(f"{'':<40}", *(f"{kind:>10}" for kind in OUTCOMES))
    found["all"] = sum(found.values(), collections.Counter())
    for name, counts in sorted(found.items()):
        print(f"{name:<40}", *(f"{counts[kind]:>10}" for kind in OUTCOMES))


def _sources(folder: pathlib.Path) -> dict:
    """A call to the folder that it goes on from."""
    begun, finished, experiment = (folder / name for name in ("begun", "finished", "experiment"))
    assert not attempt(train, finished, None)
    for seconds in range(2, 60):  # until it is killed within training
        attempt(train, begun, seconds)
        if (begun / "history.csv").exists():
            break
    assert not (begun / "model.keras").exists()
    assert not attempt(reproduce, experiment, None)
    return {train: begun, evaluate: finished, reproduce: experiment}


def _kind(status: int, folder: pathlib.Path, usual: str, end: str) -> str:
    printed = said(folder)
    if status:
        known = re.search(r"^(ValueError|OSError|FileNotFoundError): [^\n]*\Z", printed, re.M)
        return "refused" if known and status != -signal.SIGABRT else "traceback"
    if result(folder) != end:
        return "other end" if printed == usual else "said"
    return "harmless" if printed == usual else "said"


def _clean(folder: pathlib.Path) -> None:
    shutil.rmtree(folder)
    for suffix in (".log", ".sha256"):
        pathlib.Path(f"{folder}{suffix}").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
