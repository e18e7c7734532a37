"""Conditions and checks: what they can say, and that they can do nothing."""

from typing import Any

import pytest

from orchestrator_cli.planning.checks import ExpressionFailed, holds

NAMES = {"value": {"found": [1, 2, 3], "name": "Ada"}, "summary": "three", "files": ["a.txt"]}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("len(value['found']) >= 3", True),
        ("value.found[0] == 1 and 'a.txt' in files", True),
        (" not files ", False),
        ("any(n > 2 for n in value['found'])", True),
        ("sorted([3, 1])[0] == 1", True),
        ("value['name'].startswith('A')", True),
        ("'x' if files else ''", True),
    ],
)
def test_an_expression_holds_or_does_not(expression: str, expected: bool) -> None:
    assert holds(expression, NAMES) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "value['gone'] > 1",
        "unknown",
        "1 +",
        "",
        "open('/etc/passwd')",
        "__import__('os').system('true')",
        "value.__class__.__mro__",
        "().__class__.__bases__[0].__subclasses__()",
        "'a' * 10 ** 9",
        "9 ** 9 ** 9",
        "(lambda: 1)()",
        "[value for value in value.found if (yield)]",
        "'{0.__class__}'.format(value)",
        "str.format('{0.__class__}', value)",
    ],
)
def test_undecidable_or_forbidden_expressions_fail(expression: str) -> None:
    with pytest.raises(ExpressionFailed):
        holds(expression, NAMES)


def test_an_expression_changes_nothing() -> None:
    names: dict[str, Any] = {"value": [1]}
    with pytest.raises(ExpressionFailed):
        holds("value.append(2) or (value := 3)", names)
    assert names == {"value": [1]}
