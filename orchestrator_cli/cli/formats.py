"""A plan or a run in the format that the user chose, on standard output or in a file."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TextIO

from orchestrator_cli.cli.options import FormatOptions
from orchestrator_cli.cli.reporting import print_lines
from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.events import Event
from orchestrator_cli.plan import Plan
from orchestrator_cli.recall.written_files import PRINTED, write_named
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, Version
from orchestrator_cli.views.diagram import dot, mermaid, nodes_of
from orchestrator_cli.views.envelope import states_of
from orchestrator_cli.views.graph import plan_lines
from orchestrator_cli.views.history import Summary, show_json, show_lines
from orchestrator_cli.views.report import PageImages
from orchestrator_cli.views.streams import write, write_line
from orchestrator_cli.views.text import clean
from orchestrator_cli.views.tree import tree_lines

Forms = Mapping[str, Callable[[], str]]
"""What makes the text of each format, without control characters but for JSON."""


def forms_of_run(
    summary: Summary, state: RunState, found: Sequence[Event], images: Callable[[], PageImages] = PageImages
) -> Forms:
    """The formats of a run; `found` are its events, and `images` makes those of its page."""
    plans = [version.plan for version in state.versions]
    return {
        "text": lambda: _text(show_lines(summary, state)),
        "tree": lambda: _text(tree_lines(plans[-1], states_of(state)) if plans else []),
        "json": lambda: json.dumps(show_json(summary, state), ensure_ascii=False),
        "mermaid": lambda: mermaid(nodes_of(plans, states_of(state))),
        "dot": lambda: dot(nodes_of(plans, states_of(state))),
        "svg": lambda: _picture(summary, state, found),
        "html": lambda: _page(summary, state, found, images()),
    }


def forms_of_plan(prompt: str, plan: Plan) -> Forms:
    """The formats of a plan that has not run."""
    return {
        "text": lambda: _text(plan_lines(plan)),
        "tree": lambda: _text(tree_lines(plan, {})),
        "json": lambda: plan.model_dump_json(indent=2),
        "mermaid": lambda: mermaid(nodes_of([plan], {})),
        "dot": lambda: dot(nodes_of([plan], {})),
        "svg": lambda: _picture(Summary.of_plan(prompt), RunState(versions=(Version(plan),)), ()),
        "html": lambda: _page(Summary.of_plan(prompt), RunState(versions=(Version(plan),)), (), PageImages()),
    }


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{clean(line)}\n" for line in lines)


def _page(summary: Summary, state: RunState, found: Sequence[Event], images: PageImages) -> str:
    from orchestrator_cli.views.report_page import report_page  # only this format needs jinja2

    return report_page(summary, state, found, images)


def _picture(summary: Summary, state: RunState, found: Sequence[Event]) -> str:
    from orchestrator_cli.views.report_page import graph_picture

    return graph_picture(summary, state, found)


def print_formatted(options: FormatOptions, forms: Forms, settings: Settings) -> None:
    """Print a format, or write it as UTF-8 to the file of `--output`, which is replaced.

    Raises `UsageError` if two formats were given or the file cannot be written: see `written_files`.
    """
    form = options.wanted
    text = forms[form]()
    if options.output is not None:
        write_named(
            options.output, f"{escaped(text)}\n" if form == "json" else text, settings, instead=PRINTED
        )
    elif form == "json":
        write_line(sys.stdout, text)
    elif form in ("text", "tree"):
        print_lines(text.splitlines())
    else:
        write(sys.stdout, _in_letters_of(sys.stdout, text) if form in ("html", "svg") else text)


def _in_letters_of(stream: TextIO, page: str) -> str:
    """A page in which letters that the stream's encoding lacks are character references."""
    encoding = stream.encoding or "utf-8"
    return page.encode(encoding, "xmlcharrefreplace").decode(encoding)
