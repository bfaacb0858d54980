"""`report`: runs side by side as one page, and a model card of each; all of `launch.report`."""

from __future__ import annotations

import base64
import datetime
import html
import importlib.resources
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

import jarn_tf
from jarn_tf.evaluation.curves import accuracy_chart
from jarn_tf.evaluation.interval import interval_text
from jarn_tf.files import write_atomically
from jarn_tf.runs import reported
from jarn_tf.runs.config import NO_EFFECT
from jarn_tf.runs.radius import NORMS
from jarn_tf.runs.reported import Reported
from jarn_tf.runs.tables import short

#: Letters of a run's name beside its line.
_LONGEST = 24
#: The largest picture that a page takes in.
_MOST_PICTURE = 2**23


def report(folders: Sequence[str | os.PathLike], output: str | os.PathLike) -> list[pathlib.Path]:
    """Writes a page about some runs, and beside it a model card in Markdown of each.

    Args:
        folders: Folders of `runs.training` or of `runs.evaluating`.
        output: The page, `NAME.html`; it needs no other file and no network. The cards are
            `NAME_model_card.md`, of several runs `NAME_model_card_1.md` and so on.

    Returns:
        What was written, the page first.

    Raises:
        ValueError: A folder holds no run, or `output` is none of a page.
        OSError: It cannot be written.
    """
    page = pathlib.Path(output)
    if page.suffix != ".html" or page.is_dir():
        raise ValueError(f"output must be a file NAME.html. Received: {output}.")
    runs = [reported.read(folder, name) for folder, name in _named(folders).items()]
    numbers = [""] if len(runs) == 1 else [f"_{i}" for i in range(1, len(runs) + 1)]
    cards = [page.with_name(f"{page.stem}_model_card{number}.md") for number in numbers]
    today = datetime.date.today().isoformat()
    texts = {page: _page(runs, [card.name for card in cards], today)}
    texts |= {card: _card(run, today) for card, run in zip(cards, runs)}
    page.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text, "utf-8"))
    return list(texts)


def _named(folders: Sequence[str | os.PathLike]) -> dict[pathlib.Path, str]:
    """Folder to its name; the whole path where several have one name."""
    paths = {path.resolve(): path for path in map(pathlib.Path, folders)}
    names = [_printable(resolved.name) for resolved in paths]
    return {
        path: name if names.count(name) == 1 else _printable(path)
        for path, name in zip(paths.values(), names)
    }


def _printable(text: Any) -> str:
    """Names of files may have line breaks, and bytes that are no text."""
    return "".join(filter(str.isprintable, str(text)))


def _page(runs: Sequence[Reported], cards: Sequence[str], today: str) -> str:
    """The page; jinja2 escapes what the runs say."""
    asked = f"is {runs[0].name}" if len(runs) == 1 else f"are {len(runs)} runs"
    return _template("report_page.html", autoescape=True).render(
        title=f"How robust {asked}?",
        runs=list(zip(runs, cards)),
        charts=_charts(runs),
        differing=_differing(runs),
        made=f"{today}, jarn_tf {jarn_tf.__version__}",
        picture=_picture,
        interval=interval_text,
        short=short,
    )


def _card(run: Reported, today: str) -> str:
    return _template("model_card.md", finalize=_in_markdown).render(
        run=run, today=today, short=short, code=_in_code
    )


def _template(name: str, **options: Any) -> jinja2.Template:
    text = importlib.resources.files("jarn_tf.runs").joinpath(name).read_text("utf-8")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, **options
    )
    return environment.from_string(text)


def _in_markdown(value: Any) -> str:
    """On one line, and neither HTML nor a link, a cell or the end of code."""
    if isinstance(value, markupsafe.Markup):
        return value
    text = html.escape(_printable(value), quote=False)
    return text.replace("`", "'").replace("|", "\\|").replace("[", "\\[")


def _in_code(command: str) -> markupsafe.Markup:
    """A line of a block of code as it is; its start alone could end the block."""
    return markupsafe.Markup(_printable(command).lstrip("` "))


def _picture(path: pathlib.Path) -> str | None:
    """A PNG as what a page can hold; None if there is none, or none of a size to take."""
    if not path.is_file() or path.stat().st_size > _MOST_PICTURE:
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _charts(runs: Sequence[Reported]) -> dict[str, str]:
    """Norm to the least accuracy over the radius, a line a run, as what a page can hold."""
    charts = {}
    for norm in sorted({radius.norm for run in runs for radius in run.radii}):
        lines = {}
        for number, run in enumerate(runs, 1):
            left = [run.least(radius) for radius in run.radii if radius.norm == norm]
            found = [*(first.clean for first in left[:1]), *left]
            name = f"{number}. {run.name[:_LONGEST]}"
            lines[name] = [(f.radius.epsilon, f.accuracy, f.examples) for f in found]
        svg = base64.b64encode(accuracy_chart(lines, NORMS[norm])).decode()
        charts[NORMS[norm]] = f"data:image/svg+xml;base64,{svg}"
    return charts


def _differing(runs: Sequence[Reported]) -> dict[str, list[str]]:
    """Name of a setting that is not the same in all runs that have settings, to its values."""
    known = [run.settings for run in runs if run.settings]
    names = dict.fromkeys(name for settings in known for name in settings)
    return {
        name: [short(run.settings.get(name)) if run.settings else "not noted" for run in runs]
        for name in names
        if name not in NO_EFFECT and any(s.get(name) != known[0].get(name) for s in known)
    }
