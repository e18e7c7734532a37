"""The toolsmith's prompts: what is the same for every tool comes first, so that providers can keep it."""

from collections.abc import Callable
from typing import Any

import pytest
from sample_tool import CASES, CODE, SPEC

from toolsmith.proof.cases import Suite
from toolsmith.spec import Need, ToolSpec
from toolsmith.writer import write_cases, write_code, write_spec

OTHER = SPEC | {"name": "another", "purpose": "Do another thing.", "network": ["example.org"]}


def prompts_of(write: Callable[[Any], object]) -> str:
    heard: list[str] = []

    def complete(prompt: str, _schema: object = None) -> str:
        heard.append(prompt)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write(complete)
    return heard[0]


@pytest.mark.parametrize("what", ["spec", "cases", "code"])
def test_two_tools_share_all_rules_and_the_example(what: str) -> None:
    prompts = []
    for rows in (SPEC, OTHER):
        spec, suite = ToolSpec.model_validate(rows), Suite.model_validate(CASES)
        need = Need(name=spec.name, purpose=spec.purpose)
        writes: dict[str, Callable[[Any], object]] = {
            "spec": lambda complete, need=need: write_spec(need, complete),
            "cases": lambda complete, spec=spec: write_cases(spec, complete),
            "code": lambda complete, spec=spec, suite=suite: write_code(
                spec, suite, complete, previous=CODE, failures=["no"]
            ),
        }
        prompts.append(prompts_of(writes[what]))
    shared = prompts[0][: next(n for n, (a, b) in enumerate(zip(*prompts, strict=False)) if a != b)]
    assert "# What to return" in shared
    assert "# Example" in shared
    assert "# Specification" in shared or "# What is needed" in shared
