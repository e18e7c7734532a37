"""Subtasks that a registered process does: given, done, told and committed; and ended when they must end."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cast import Cast, code, coder, decided, plan, process
from command import Orch
from endpoint import Endpoint
from engine import Engine

KEEP = [decided("keep", "There is no other way.")]


def register(orch: Orch, **processes: dict[str, Any]) -> None:
    """Write processes into the user's configuration file; each value is JSON, which TOML reads here too."""
    lines = []
    for name, fields in processes.items():
        lines.append(f"[processes.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in ({"when": f"Does {name}."} | fields).items()]
    (orch.home / "orch.toml").write_text("\n".join(lines))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_process_reads_its_inputs_and_its_value_and_files_are_those_of_any_subtask(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    program = (
        "import json, sys; given = json.load(sys.stdin); "
        "open('total.txt', 'w').write(str(sum(given['numbers']))); print(json.dumps({'sum': sum(given['numbers'])}))"
    )
    register(orch, add={"command": python(program), "effects": False})
    endpoint.reply = Cast(
        planner=[
            plan(
                coder("find", result={"type": "array"}),
                process("total", "add", ["find"], inputs={"numbers": "$find.value"}, check="value['sum'] == 6"),
            )
        ],
        agents={"Do find": [code("final_answer([1, 2, 3])")]},
    )
    done = orch("ask", "--json", "Add them.")
    assert (done.code, done.envelope["states"]) == (0, {"find": "done", "total": "done"}), done.err
    assert orch.file("total.txt") == "6"
    assert "`total` called `process add(numbers=[1, 2, 3])`" in orch.log
    assert {run["name"] for run in engine.task_runs(orch.journal().parent.name)} == {"find", "total"}
    assert "Does add." in endpoint.of("planner")[0].text
