"""No text of a model, a program or a file can forge an entry, in any field of any event.

The facts are made from the classes of `events` themselves, so that a new kind or field is tested as
soon as it is there. What is asked is how a Markdown parser reads the log, and whether the chain holds.
"""

import re
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import BaseModel

from orchestrator_cli.events import AnyFact, Event, Fact
from orchestrator_cli.journal.chain_check import check_chain
from orchestrator_cli.journal.hash_chain import entry_head, read_log, sealed
from orchestrator_cli.views.entries import entry_for
from orchestrator_cli.views.filelog import HEADER, begun

TIME = datetime(2026, 7, 1, 14, 3, 22, tzinfo=UTC)
KINDS: tuple[type[Fact], ...] = get_args(get_args(AnyFact)[0])
SEAL = f"<!-- orch entry 7 run r place 2 after {'0' * 64} hash {'0' * 64} -->"
BAIT = [
    *("```", "````", "~~~", "`", "\\", "|", "**", "](", "$$", "<details>", "</details>", "</summary>"),
    *("<script>", "<!--", "-->", "<!-- orch", "<!--orch", "<http://a>", "&lt;", "![i](http://a)", "[a](b)"),
    *(
        "# ",
        "## ",
        "- ",
        "> ",
        "1. ",
        "===",
        "---",
        "+++",
        "[x]: http://a",
        "[^1]: note",
        "<?php",
        "<![CDATA[",
    ),
    *(
        "# heading",
        "## Run 1 — now",
        "### 9 · x",
        SEAL,
        "<!-- orch added place 1 -->",
        "| a | b |",
        "    ",
        "\t",
    ),
    *(
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "\x1b[2J",
        "\x00",
        "\x85",
        "\u2028",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\ud800",
    ),
    *(
        "---\ntitle: x\n---\n",
        "title\n===",
        f"\n\n{SEAL}\n",
        "\n```\n# out\n",
        "e\u0301",
        "\u00a0",
        "\U000e0041",
    ),
]
PIECE = st.one_of(st.sampled_from(BAIT), st.sampled_from(BAIT), st.text(max_size=8))
FOREIGN = st.lists(PIECE, min_size=1, max_size=12).map("".join)
FOLDS = {"Source", "What each subtask is asked", "The subtasks as they are now"}
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def filled(annotation: Any, text: str) -> Any:
    """A value of a type in which every text is the hostile one."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is str:
        return text
    if origin is typing.Annotated:
        return filled(args[0], text)
    if origin is Literal:
        return args[-1]
    if origin in (Union, types.UnionType):
        return filled(next(arg for arg in args if arg is not type(None)), text)
    if origin in (tuple, list, frozenset, set):
        return origin([filled(args[0], text)] * (1 if origin in (frozenset, set) else 2))
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {filled(args[0], text): filled(args[1], text)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return made(annotation, text)
    if annotation in (int, float, bool):
        return annotation(2)
    if annotation is datetime:
        return TIME
    return text


def made(model: type[BaseModel], text: str) -> Any:
    """Without validation: a rule that is loosened later must not open the log."""
    values = {
        name: field.default if name == "kind" and issubclass(model, Fact) else filled(field.annotation, text)
        for name, field in model.model_fields.items()
    }
    return model.model_construct(**values)


def parsed_faults(markdown: str, wanted: list[str]) -> str:
    """What a parser finds in an entry that the runtime did not write."""
    tokens = PARSER.parse(markdown)
    headings = [token for token in tokens if token.type == "heading_open"]
    if len(headings) != markdown.lstrip("\n").startswith("#"):
        return f"{len(headings)} headings"
    blocks = [token.content.strip() for token in tokens if token.type == "html_block"]
    folds = [f"<details><summary>{name}</summary>" for name in FOLDS]
    foreign = [block for block in blocks if block not in (*folds, "</details>", *wanted)]
    inline = {child.type for token in tokens for child in token.children or []}
    lost = [comment for comment in wanted if comment not in blocks]
    return " ".join(map(str, [*foreign, *lost, *({"html_inline", "image", "link_open"} & inline)]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_field_of_any_event_becomes_a_heading_a_comment_or_a_tag(kind: type[Fact]) -> None:
    @settings(max_examples=25, deadline=None, database=None)
    @given(foreign=FOREIGN)
    @example(foreign="".join(BAIT))
    @example(foreign="\n".join(BAIT))
    @example(foreign=SEAL)
    @example(foreign=f"x\n\n{SEAL}\n\n# y")
    @example(foreign="")
    def holds(foreign: str) -> None:
        event = Event.model_construct(run="r", seq=7, time=TIME, schema_version=1, data=made(kind, foreign))
        entry = entry_for(event)
        if entry is None:
            return
        head, first = begun(HEADER)
        text = f"\n{entry}\n\n"
        raw = text.encode("utf-8", "replace")
        seal = sealed(entry_head(7, "r"), 1, first.hash, raw)
        assert not parsed_faults(f"{text}{seal.line}", [seal.line.strip()]), text
        assert len(re.findall("<!--\\s*orch", text, re.IGNORECASE)) == 0, text
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text
        )
        findings = check_chain(read_log(head + raw + seal.line.encode()))
        assert (findings.fault, findings.entries, findings.log.rest) == (None, 1, b"")

    holds()


def test_file_begins_with_a_heading() -> None:
    assert HEADER.startswith("# fileLog\n")


@settings(max_examples=40, deadline=None)
@given(run=st.text(max_size=20))
def test_run_name_cannot_break_out_of_the_seal(run: str) -> None:
    seal = sealed(entry_head(1, run), 1, "0" * 64, b"x\n")
    assert len(read_log(b"x\n" + seal.line.encode()).blocks) == 1
    assert "--" not in seal.line.strip()[4:-3]
