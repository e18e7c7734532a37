"""Conditions and checks: what they can say, and that they can do nothing."""

import time
import tracemalloc
from typing import Any

import pytest

from orchestrator_cli.durable.expressions import ExpressionFailed, expression_faults, holds

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


LARGE = {
    "text": "ab " * 100_000,
    "long": "a" * 1_000_000,
    "half": "a" * 500_000 + "b",
    "rows": [{"n": n, "name": "x" * 10} for n in range(5_000)],
    "clash": [n * (2**61 - 1) for n in range(1, 50_000)],
}


@pytest.mark.parametrize(
    "expression",
    [
        "value.text.count('b') == 100000",
        "len(value.text.split()) == 200000 - 100000",
        "all(row['n'] >= 0 and len(row.name) == 10 for row in value.rows)",
        "len(set([row['n'] for row in value.rows])) == 5000",
        "sum(row['n'] for row in value.rows) == 12497500",
        "', '.join([row['name'] for row in value.rows]).replace('x', 'yy').count('y') == 100000",
        "sorted(['bb', 'a'], key=len)[0] == 'a' and round(3.14159, 2) == 3.14",
    ],
)
def test_a_large_value_can_be_checked(expression: str) -> None:
    assert holds(expression, {"value": LARGE})


@pytest.mark.parametrize(
    "expression",
    [
        "3999999 ** 3999999 > 0",
        "1 << 10000000",
        "round(5, -1000000000)",
        "[d * d for d in [c * c for c in [b * b for b in [a * a for a in [9" + "9" * 1_500 + "]]]]]",
        "'a' * 1000000000",
        "[0] * 1000000000",
        "'a'.ljust(2000000000)",
        "'a'.center(2000000000)",
        "'1'.zfill(2000000000)",
        "'%1000000000d' % 1",
        "f'{1:1000000000}'",
        "'{0:1000000000}'.format(1)",
        "'a\t'.expandtabs(2000000000)",
        "len(range(1000000000))",
        "int(value.long)",
        "value.half.replace('a', value.long)",
        "value.long.join(value.text)",
        "value.long.strip(value.half)",
        "value.long.rfind(value.half)",
        "str([value.long, value.long])",
        "set(value.clash)",
        "sum([value.rows for row in value.rows], [])",
        "all(row in value.rows for row in value.rows)",
        "[value.long[1:] for row in value.rows]",
        "[value.long.upper() for row in value.rows]",
        "sorted([value.rows for row in value.rows], key=str)",
        "[a for a in value.rows for b in value.rows]",
    ],
)
def test_no_expression_takes_much_time_or_memory(expression: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(ExpressionFailed):
            holds(expression, {"value": LARGE})
        assert time.process_time() - started < 10
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_a_model_hears_what_an_expression_may_be() -> None:
    assert "ljust" in str(expression_faults("value.ljust(9)", ["value"]))
    assert "Pow" in str(expression_faults("value ** 9", ["value"]))
    assert "files" in str(expression_faults("files", ["value"]))


def test_an_expression_changes_nothing() -> None:
    names: dict[str, Any] = {"value": [1]}
    with pytest.raises(ExpressionFailed):
        holds("value.append(2) or (value := 3)", names)
    assert names == {"value": [1]}
