"""A run as a page of HTML, and its graph as an SVG, that need nothing else: no script, request or file.

Every text of others is escaped, and its control characters and hidden signs are written out. The answer is
Markdown, of which HTML, links and images stay text. A Content Security Policy forbids the page everything but
its own style and the images that are in it, so what might get through could load or run nothing.

Not covered: what a browser's extensions add.
"""

import base64
import hashlib
import math
import re
import textwrap
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from orchestrator_cli.events import Event
from orchestrator_cli.state import RunState
from orchestrator_cli.views.diagram import COLOURS
from orchestrator_cli.views.graph import SIGNS
from orchestrator_cli.views.history import Summary
from orchestrator_cli.views.layout import Grid, drawing_of
from orchestrator_cli.views.report import SOURCE_CHARS, PageImages, report_of
from orchestrator_cli.views.text import (
    calls,
    counted,
    cut,
    duration,
    file_name,
    label,
    money,
    shown,
    size,
    value_text,
)
from orchestrator_cli.views.timeline import BarKind, path_steps

LOOKS = {
    "completed": "done",
    "running": "running",
    "paused": "waiting",
    "interrupted": "waiting",
    "failed": "failed",
    "died": "failed",
}
"""The look of a run, by its state."""
WORDS: dict[BarKind, str] = {
    "work": "worked",
    "failed": "failed",
    "cut": "cut off",
    "person": "waited for you",
    "turn": "could have started",
    "model": "asked a model",
}
WIDE = Grid(columns=5)
NARROW = Grid(columns=2, width=150, gap_x=24, margin=12)
"""For screens of less than 1,100 pixels."""
NO_IMAGES = PageImages()


def report_page(
    summary: Summary, state: RunState, found: Sequence[Event], images: PageImages = NO_IMAGES
) -> str:
    """The page of a run; `found` are all its events, and `state` is what they add up to."""
    report = report_of(summary, state, found)
    page = _environment().get_template("report.html")
    return page.render(
        report=report,
        answer=_markdown(report.answer),
        prompt=report.summary.prompt,
        attached={name: Markup(escape(one)) for name, one in images.attached.items()},
        written={path: Markup(escape(one)) for path, one in images.written.items()},
        drawings={"wide": drawing_of(report.nodes, WIDE), "narrow": drawing_of(report.nodes, NARROW)},
        steps=path_steps(report.timeline),
    ).lstrip()


def graph_picture(summary: Summary, state: RunState, found: Sequence[Event]) -> str:
    """The graph of that page as an SVG by itself, in its light colours."""
    report = report_of(summary, state, found)
    picture = _environment().get_template("graph.svg")
    return picture.render(report=report, drawing=drawing_of(report.nodes, WIDE)).lstrip()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters.update(
        digest=_digest,
        duration=duration,
        file_name=file_name,
        in_colours=_in_colours,
        label=label,
        lines=_lines,
        counted=counted,
        cut=cut,
        size=size,
        money=money,
        calls=calls,
        text=value_text,
        ticks=_ticks,
    )
    environment.globals.update(
        colours=COLOURS, signs=SIGNS, looks=LOOKS, words=WORDS, source_chars=SOURCE_CHARS
    )
    return environment


def _source(name: str) -> str:
    return resources.files("orchestrator_cli.views").joinpath(name).read_text(encoding="utf-8")


def _finalized(value: Any) -> Any:
    """Every value, before it is escaped. Markup is ours: the style, and the rendered answer."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return shown(value)


def _digest(style: str) -> str:
    """The hash of a style as a Content Security Policy names it."""
    digest = hashlib.sha256(str(style).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _in_colours(style: str) -> Markup:
    """A style with the page's light colours in the place of their names, which not every program knows."""
    light: Any = _environment().get_template("graph.html").module
    values = dict(re.findall(r"--([a-z-]+): ([^;]+);", light.light()))
    return Markup(re.sub(r"var\(--([a-z-]+)\)", lambda match: values[match[1]], str(style)))


def _lines(title: str, width: int, most: int) -> list[str]:
    """A title in lines of so many letters."""
    return textwrap.wrap(label(title, 200), width, max_lines=most, placeholder="…")


def _ticks(seconds: float) -> list[float]:
    """Round times for the axis, from 0; at most six."""
    if seconds <= 0:
        return [0.0]
    step = next((one for one in _steps(seconds) if seconds / one <= 5.5), seconds / 5)
    return [step * number for number in range(int(seconds / step * 0.97) + 1)]


def _steps(seconds: float) -> list[float]:
    """Round steps: decimal ones below a minute, above it those of a clock, then decimal ones of hours."""
    if 60 < seconds <= 36_000:
        return [15, 30, 60, 120, 300, 600, 1800, 3600, 7200]
    unit = 1.0 if seconds <= 60 else 3600.0
    power = 10.0 ** math.floor(math.log10(seconds / unit / 5))
    return [power * factor * unit for factor in (1, 2, 5, 10)]


# --- the answer


def _markdown(text: str) -> Markup:
    """Markdown as HTML that holds nothing of the text's own: no HTML, no address that can be followed."""
    return Markup(_renderer().render(shown(text)))


@cache
def _renderer() -> MarkdownIt:
    found = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    for kind, rule in {
        "link_open": lambda *_: "",
        "link_close": _link_end,
        "image": _image,
        "th_open": lambda *_: "<th>",  # the policy refuses the style that aligns a column
        "td_open": lambda *_: "<td>",
        "heading_open": _heading,
        "heading_close": _heading,
    }.items():
        found.add_render_rule(kind, rule)
    return found


def _link_end(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """The address of a link, after its words, unless they are the same."""
    depth, address = 0, ""
    for token in reversed(tokens[: place + 1]):
        depth += (token.type == "link_close") - (token.type == "link_open")
        if depth == 0:
            address = str(token.attrGet("href"))
            break
    return f" <code>{escape(address)}</code>" if address not in ("", tokens[place - 1].content) else ""


def _image(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    token = tokens[place]
    return f"[image: {escape(token.content)}] <code>{escape(token.attrGet('src'))}</code>"


def _heading(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """Two levels lower: the page has headings of its own."""
    level = min(6, int(tokens[place].tag[1:]) + 2)
    return f"<{'/' if tokens[place].nesting < 0 else ''}h{level}>"
