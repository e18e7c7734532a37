"""Faults that are planted into a module: which ones, where, and in what words."""

import ast
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolsmith.built import MutantResult
from toolsmith.proof.mutants import MOST, gaps, mutants_of, too_weak

MODULE = '''"""Doc."""
from smolagents import tool

LIMIT = 10


@tool
def f(items: list[int], top: int = 3) -> list[int]:
    """Do it.

    Args:
        items: what
        top: how many
    """
    BODY
'''


def of(body: str, most: int = 200) -> list[tuple[str, str]]:
    """Kind and changed body of every mutant."""
    found = mutants_of(MODULE.replace("BODY", body), "f", most)
    return [(mutant.kind, ast.unparse(ast.parse(mutant.source).body[-1].body[1:])) for mutant in found]  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize(
    ("body", "kind", "changed"),
    [
        ("return items if len(items) < top else []", "boundary", "len(items) <= top"),
        ("return items == top", "comparison", "items != top"),
        ("return top in items", "comparison", "top not in items"),
        ("return top + top", "arithmetic", "top - top"),
        ("return top and items", "condition", "top or items"),
        ("return not items", "negation", "return items"),
        ("return any(items)", "condition", "all(items)"),
        ("return max(items)", "extreme", "min(items)"),
        ("return sorted(items)", "order", "list(items)"),
        ("return items[1:top]", "part", "items[1:top - 1]"),
        ("return items[top:]", "part", "items[top + 1:]"),
        ("return [x for x in items if x]", "filter", "[x for x in items]"),
        ("return f(items, reverse=True)", "choice", "reverse=False"),
        ("return top * 60", "number", "top * 61"),
        ("return ', '.join(items)", "text", "','.join(items)"),
        ("return items.strip()", "cleaning", "return items"),
        ("return items", "result", "return None"),
        ("if top: return items", "negation", "if not top"),
        ("if top: raise ValueError('no')", "error", "pass"),
        ("for x in items: continue", "loop", "pass"),
        ("items.append(top)", "step", "pass"),
        ("items[0] = top", "step", "pass"),
        ("top += 1", "arithmetic", "top -= 1"),
    ],
)
def test_small_faults_of_many_kinds_are_planted(body: str, kind: str, changed: str) -> None:
    assert any(found == kind and changed in text for found, text in of(body)), of(body)


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError(f'{items} is wrong, and {top:03d} too', 'a message')",
        "x: 'a type' = items",
        "open(top, encoding='utf-8')",
        "'''A text that says something.'''",
    ],
)
def test_what_only_says_something_is_left_alone(body: str) -> None:
    assert not [found for found in of(body) if found[0] == "text"]


def test_defaults_of_the_tool_are_left_alone_because_the_rules_look_at_them() -> None:
    sources = [mutant.source for mutant in mutants_of(MODULE.replace("BODY", "return items"), "f")]
    assert all("top: int=3" in source for source in sources)


LONG = "\n    ".join([f"if top < {n}: items.append({n} + top)" for n in range(20)])


def test_the_choice_is_bounded_spread_and_always_the_same() -> None:
    source = MODULE.replace("BODY", LONG)
    first = mutants_of(source, "f")
    assert first == mutants_of(source, "f")
    assert len(first) == MOST
    assert len({mutant.kind for mutant in first}) >= 5
    lines = [mutant.line for mutant in first]
    assert min(lines) <= 16
    assert max(lines) >= 30
    assert len({mutant.source for mutant in first}) == MOST


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400), most=st.integers(0, 30))
def test_every_mutant_is_python_and_no_module_itself(sample: Any, cut: int, most: int) -> None:
    source = (
        sample.code if not cut % 2 else MODULE.replace("BODY", LONG[: LONG.rfind("\n", 0, cut) + 1] or "pass")
    )
    same = ast.unparse(ast.parse(source))
    for mutant in mutants_of(source, "f", most):
        assert ast.unparse(ast.parse(mutant.source)) != same


def test_the_words_are_about_behaviour_and_hold_no_code() -> None:
    source = MODULE.replace("BODY", LONG + "\n    return sorted(items)[:top]")
    for mutant in mutants_of(source, "f", 200):
        assert "items" not in mutant.told.split() or mutant.kind == "loop"
        assert "top" not in mutant.told.split()
        assert not set("=<>[]{}") & set(mutant.told)


def result(told: str, caught_by: str = "") -> MutantResult:
    return MutantResult(kind="number", line=1, told=told, caught_by=caught_by)


def test_cases_are_too_weak_below_a_half_of_three_and_more() -> None:
    caught, missed = result("a", "case"), result("b")
    assert not too_weak([])
    assert not too_weak([missed, missed])
    assert too_weak([missed, missed, caught])
    assert not too_weak([missed, missed, caught, caught])
    assert gaps([missed, caught, missed, result("c")]) == ("b", "c")
