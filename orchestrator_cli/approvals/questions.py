"""What a person is asked before a subtask starts."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import Question
from orchestrator_cli.plan import Result, Subtask, resolve

DETAIL_CHARS = 4_000
DIFF_CHARS = 60_000


def question_before(subtask: Subtask, results: Mapping[str, Result]) -> Question | None:
    """The question that has to be answered first; None where there is none.

    Raises `KeyError` as `resolve` does.
    """
    if subtask.kind != "human" and not subtask.approve:
        return None
    inputs = resolve(subtask.inputs, results)
    return subtask_question(subtask, inputs if isinstance(inputs, dict) else {})


def subtask_question(subtask: Subtask, inputs: Mapping[str, JsonValue]) -> Question:
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


def writes_question(subtask: str, files: Sequence[str], diff: str) -> Question:
    """The question whether what an attempt wrote may be committed; another diff is another question."""
    details = (
        diff if len(diff) <= DIFF_CHARS else f"{diff[:DIFF_CHARS]}\n… and {len(diff) - DIFF_CHARS:,} more"
    )
    count = f"{len(files)} file" if len(files) == 1 else f"{len(files)} files"
    return Question(
        what="writes",
        subject=subtask,
        question=f"May {subtask} change {count}? {', '.join(files)}"[:DETAIL_CHARS],
        details=details,
        sense=hashlib.sha256(diff.encode()).hexdigest(),
    )
