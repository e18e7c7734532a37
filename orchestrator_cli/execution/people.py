"""What a person is asked before a subtask starts."""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from orchestrator_cli.execution.desk import Question
from orchestrator_cli.planning.plan import Result, Subtask, resolve

DETAIL_CHARS = 4_000


def question_before(subtask: Subtask, results: Mapping[str, Result]) -> Question | None:
    """The question that has to be answered first; None where there is none.

    Raises `KeyError` as `resolve` does.
    """
    if subtask.kind != "human" and not subtask.approve:
        return None
    inputs = resolve(subtask.inputs, results)
    return asking(subtask, inputs if isinstance(inputs, dict) else {})


def asking(subtask: Subtask, inputs: Mapping[str, JsonValue]) -> Question:
    """The question of a subtask whose inputs are there."""
    details = json.dumps(inputs, ensure_ascii=False, indent=2)[:DETAIL_CHARS] if inputs else ""
    if subtask.kind == "human":
        return Question(
            what="question",
            subject=subtask.id,
            question=subtask.instruction,
            details=details,
            result=subtask.result,
        )
    told = f"May {subtask.id} start? {subtask.title}: {subtask.instruction}".strip(": ")
    return Question(what="subtask", subject=subtask.id, question=told, details=details)
