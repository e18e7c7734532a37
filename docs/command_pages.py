"""The pages of the commands, docs/commands/NAME.md, made from the command line itself.

The examples of a page are the lines of code of the other pages that call its command.
"""

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer.main

from orchestrator_cli.cli.app import app
from orchestrator_cli.cli.command_list import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "commands"
MOST_EXAMPLES = 8
BLOCK = re.compile(r"^( *)(`{3,})([a-z]*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(orch(?: .*)?)$")
HEAD = "<!-- Generated from the command line. Change its help, or an example on another page. -->\n\n"


class Example(NamedTuple):
    """A line of a page that calls `orch`."""

    words: tuple[str, ...]
    """What follows `orch`, as a shell reads it."""
    line: str
    page: Path
    heading: str
    """Of the section that it is in."""

    @property
    def command(self) -> str:
        """The name of the command, without the options before it; empty if there is none."""
        return next((word for word in self.words if word in COMMANDS), "")


def examples(pages: Iterable[Path]) -> Iterator[Example]:
    """The calls of `orch` in the blocks of code of these pages."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            before = re.sub(BLOCK, "", text[: block.start()])
            heading = re.findall(r"^#+ (.*)$", before, re.MULTILINE)[-1]
            for line in block[4].replace("\\\n", " ").splitlines():
                if block[3] in ("", "console", "sh") and (call := CALL.match(line.strip())):
                    yield from _example(call[1], page, heading)


def _example(line: str, page: Path, heading: str) -> Iterator[Example]:
    """The call of a line, without what the shell does with it and what the page says about it."""
    call = line if "#" in line else re.split(r"\s{2,}", line)[0]
    words = shlex.shlex(call, posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, "#"
    found = itertools.takewhile(lambda word: not word or set(word) - set("|<>&;"), list(words)[1:])
    yield Example(tuple(found), re.sub(r"\s{2,}", " ", call), page, heading)


def anchor(heading: str) -> str:
    """The name that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def command_pages(pages: Iterable[Path]) -> Mapping[Path, str]:
    """The text of each page, by its path. `pages` are searched for examples."""
    orch: Any = typer.main.get_command(app)
    orch.load(*COMMANDS)
    found: dict[str, list[Example]] = {name: [] for name in COMMANDS}
    for example in examples(pages):
        if example.command and example.line not in [one.line for one in found[example.command]]:
            found[example.command].append(example)
    return {
        FOLDER / f"{name}.md": HEAD + "\n\n".join(_page(name, orch.commands[name], found[name])) + "\n"
        for name in COMMANDS
    }


def command_links(folder: str = "commands") -> str:
    """One line with a link to each page."""
    return " · ".join(f"[{name}]({folder}/{name}.md)" for name in COMMANDS)


def _page(name: str, command: Any, found: list[Example]) -> Iterator[str]:
    yield f"# orch {name}"
    yield from _about(f"orch {name}", command)
    for below in getattr(command, "commands", {}).values() if name in GROUPS else ():
        yield f"## orch {name} {below.name}"
        yield from _about(f"orch {name} {below.name}", below)
    if found:
        yield "## Examples"
    by_place: dict[tuple[Path, str], list[str]] = {}
    for example in found[:MOST_EXAMPLES]:
        by_place.setdefault((example.page, example.heading), []).append(example.line)
    for (page, heading), lines in by_place.items():
        way = "../../" if page.parent == ROOT else "../"
        yield f"[{heading}]({way}{page.name}#{anchor(heading)}):"
        yield "\n".join(["```", *lines, "```"])
    yield "[All commands](../commands.md) · [Settings](../settings.md)"


def _about(call: str, command: Any) -> Iterator[str]:
    context = command.make_context(call, [], resilient_parsing=True)
    yield re.sub(r"(?<=\S)\n(?=\S)", " ", (command.help or "").strip())
    yield "\n".join(["```", f"{call} {' '.join(command.collect_usage_pieces(context))}", "```"])
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            flags, about = record[0].replace("|", ", "), record[1].replace("|", "&#124;").strip()
            rows.append(f"| `{flags}` | {about} |")
    if rows:
        yield "\n".join(["| argument or option | what it does |", "| --- | --- |", *rows])
