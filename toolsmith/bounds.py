"""How large the parts of a tool may be: its words, its cases and its module. Pure.

Strangers write tools too, and what a tool says of itself gets into prompts, questions, logs and lists. So
each part is bounded wherever a tool is written, imported or read, and what is too large is refused with its
place. The schemas that models are given do not have these bounds: a fault says which one is broken.
"""

import ast
from collections.abc import Iterator, Sized
from typing import TypeVar

from pydantic import AfterValidator

_T = TypeVar("_T", bound=Sized)

TEXT_CHARS = 2_000
"""Of each text of a specification: a purpose, a description, a check."""
TITLE_CHARS = 200
"""Of the title of a case or property."""
NAME_CHARS = 100
"""Of the name of an input, a secret or a function."""
VALUE_CHARS = 500
"""Of a default: the signature has it."""
MAX_INPUTS, MAX_ERRORS, MAX_GRANTS = 40, 40, 40
CASE_CHARS = 200_000
"""Of a case or property as JSON."""
KEPT_CASES, KEPT_PROPERTIES = 400, 100
"""Of a tool of the library, which was maybe extended several times."""
SOURCE_CHARS = 500_000
MAX_FUNCTIONS = 300


def at_most(limit: int) -> AfterValidator:
    """A validator that refuses what is longer."""

    def check(value: _T) -> _T:
        if len(value) > limit:
            what = "characters" if isinstance(value, str) else "parts"
            raise ValueError(f"has {len(value):,} {what}; give at most {limit:,}")
        return value

    return AfterValidator(check)


def case_fault(text: str) -> str | None:
    """Why a case or property, as JSON, is too large; None if it is not."""
    return f"has {len(text):,} characters; at most {CASE_CHARS:,}" if len(text) > CASE_CHARS else None


def source_fault(source: str) -> str | None:
    """Why a module is too long to be parsed; None if it is not."""
    if len(source) <= SOURCE_CHARS:
        return None
    return f"the module has {len(source):,} characters; at most {SOURCE_CHARS:,}"


def function_faults(
    functions: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]],
) -> Iterator[tuple[int, str]]:
    """What is too large about the functions of a module, with the lines."""
    if len(functions) > MAX_FUNCTIONS:
        yield 1, f"the module has {len(functions)} functions; at most {MAX_FUNCTIONS}"
    for name, node in functions[:MAX_FUNCTIONS]:
        if len(name) > 2 * NAME_CHARS:
            yield node.lineno, f"the name {name[:40]}… has more than {2 * NAME_CHARS} characters"
        if len(ast.unparse(node.args)) + len(ast.unparse(node.returns) if node.returns else "") > TEXT_CHARS:
            yield node.lineno, f"the signature of {name[:60]} has more than {TEXT_CHARS:,} characters"
        if len(ast.get_docstring(node) or "") > 10 * TEXT_CHARS:
            yield node.lineno, f"the docstring of {name[:60]} has more than {10 * TEXT_CHARS:,} characters"
