"""Patterns over text of others take linear time: a match holds the interpreter, so nothing could end it.

Each pattern that a module keeps is searched for in long texts of one repeated piece. Not covered: patterns
that are put together in a call, and repetitions of other pieces.
"""

import contextlib
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import memory
import orchestrator_cli
import toolsmith
from orchestrator_cli.durable.json_text import fenced_blocks, json_from_reply
from orchestrator_cli.planning.reference_forms import as_reference, form_fault
from orchestrator_cli.planning.repair import A_REFERENCE

CHARS = 8_000
SLOW_S = 0.05
"""A linear search takes a hundredth of it."""
PIECES = """a 1 A _ - . / : , ; = # ~ < ( [ { ] } ` ' " $ \\ \\" \\"xy a. a- a: a@ 1/ /a // .. ], {" $a
$a.value http:// -----""".split()  # noqa: SIM905
PIECES += [" ", "\n", "\t", "\r", "a ", "node ", "{ ", "[ ", "```\n", " \n", "\x1b[", "\u2003", "# \n"]
FRAMES = (("", ""), ("{", "\n!"))


def _modules() -> Iterator[Any]:
    for package in (orchestrator_cli, memory, toolsmith):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def _patterns_in(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _patterns_in([*value, *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _patterns_in(item)


def _patterns() -> dict[re.Pattern[Any], str]:
    """Each pattern with where it is kept."""
    return {
        pattern: f"{module.__name__}.{name}"
        for module in _modules()
        for name, value in list(vars(module).items())
        for pattern in _patterns_in(value)
    }


def _seconds(pattern: re.Pattern[Any], text: str) -> float:
    subject = text if isinstance(pattern.pattern, str) else text.encode()
    started = time.process_time()
    for _ in pattern.finditer(subject):
        pass
    return time.process_time() - started


def _is_slow(pattern: re.Pattern[Any], text: str) -> bool:
    return all(_seconds(pattern, text) > SLOW_S for _ in range(3))


EXCEPTIONS = {
    "orchestrator_cli.config_file._TOKEN": "an orch.toml of a folder has at most 16 KiB",
}


def test_each_pattern_takes_linear_time() -> None:
    texts = [f"{head}{piece * (CHARS // len(piece))}{tail}" for piece in PIECES for head, tail in FRAMES]
    slow = {}
    for pattern, place in _patterns().items():
        if place not in EXCEPTIONS and (found := next((x for x in texts if _is_slow(pattern, x)), "")):
            slow[place] = (found[:12], found[-3:])
    assert not slow


@pytest.mark.parametrize(
    "text",
    ["{" + " \n" * 40_000 + "!", "{{" + " " * 80_000, "$a" + ".value" * 20_000 + "!", "$a" + "[0]" * 30_000],
)
def test_a_long_input_is_judged_in_time(text: str) -> None:
    started = time.process_time()
    form_fault(text, ["a"], each=False)
    as_reference(text, ["a"], each=True)
    A_REFERENCE.match(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("piece", ['\\"xy', '{"', "{a: ", '"', "```", "[{", "{x}"])
def test_a_long_reply_is_read_in_time(piece: str) -> None:
    started = time.process_time()
    for text in (piece * (200_000 // len(piece)), "{goal: " + piece * (200_000 // len(piece)) + "}"):
        with contextlib.suppress(ValueError):
            json_from_reply(text, ("goal",), lambda _: None)
        fenced_blocks(text)
    assert time.process_time() - started < 5
