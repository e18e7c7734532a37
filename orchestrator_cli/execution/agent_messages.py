"""What an agent's model reads: its instructions, its task, and what each step said and gave.

A call of a tool that the model made as such goes back the same way, with a result for each call. What a
step gave is marked as data: it can hold text of files and pages. Corrections of the model's form are ours,
and are not.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smolagents.memory import ActionStep, AgentMemory
from smolagents.utils import AgentParsingError

from orchestrator_cli.durable.foreign import as_data
from orchestrator_cli.execution.code_block import CLOSING, OPENING, find_code
from orchestrator_cli.models.model import Message

SHORT = 300
"""Characters that are left of what is shortened."""


@dataclass(frozen=True)
class CallResult:
    """One call of a tool, and what it gave as text."""

    id: str
    """Unique within the attempt."""
    name: str
    arguments: Any
    text: str

    @property
    def call(self) -> Message:
        """As an OpenAI message has it. Some providers refuse arguments that are no JSON object."""
        given = self.arguments if isinstance(self.arguments, dict) else {"text": self.arguments}
        function = {"name": self.name, "arguments": json.dumps(given, ensure_ascii=False)}
        return {"id": self.id, "type": "function", "function": function}

    @property
    def short(self) -> "CallResult":
        given = self.arguments if isinstance(self.arguments, dict) else {"text": self.arguments}
        arguments = {key: _head(value) if isinstance(value, str) else value for key, value in given.items()}
        return replace(self, arguments=arguments, text=_head(self.text))


def step_messages(
    step: ActionStep, results: Sequence[CallResult] = (), *, is_short: bool = False
) -> list[Message]:
    """What the model said in a step, and what it gave.

    Args:
        results: those of the calls that the model made as such.
        is_short: keep the model's words, and only the beginning of what it ran and of what that gave.
    """
    shown = _head if is_short else str
    if results:
        results = [one.short for one in results] if is_short else results
        return [_with_calls(str(step.model_output or "").strip(), results), *_results(step, results, shown)]
    said = _said(step, is_short)
    rows = [_row("assistant", said)] if said else []
    if step.observations is not None:
        rows.append(_row("user", _marked(f"Observation:\n{shown(step.observations)}")))
    if isinstance(step.error, AgentParsingError):
        rows.append(_row("user", str(step.error)))
    elif step.error is not None:
        rows.append(_row("user", _marked(f"Error:\n{shown(str(step.error))}")))
    return rows


def _said(step: ActionStep, is_short: bool) -> str:
    text = str(step.model_output or "").strip()
    block = find_code(text) if is_short else None
    if block is None:
        return text
    return f"{block.thought}{OPENING}\n{_head(block.code)}\n{CLOSING}"


def _head(text: str) -> str:
    left = len(text) - SHORT
    return text if left <= 0 else f"{text[:SHORT]}… ({left:,} characters left out)"


def _with_calls(said: str, results: Sequence[CallResult]) -> Message:
    return {"role": "assistant", "content": said or None, "tool_calls": [one.call for one in results]}


def _results(
    step: ActionStep, results: Sequence[CallResult], shown: Callable[[str], str]
) -> Iterator[Message]:
    """A result for each call. What the step as a whole met, such as a refused value, is with the last one."""
    error = shown(str(step.error)) if step.error else ""
    for one in results:
        said_later = one is results[-1] and not any(error in other.text for other in results)
        text = "\n".join(filter(None, [one.text, error if said_later else ""]))
        yield {"role": "tool", "tool_call_id": one.id, "content": _marked(text)}


def first_messages(memory: AgentMemory) -> list[Message]:
    """The instructions and the task."""
    return [
        _row("system", memory.system_prompt.system_prompt),
        _row("user", f"New task:\n{memory.steps[0].task}"),
    ]


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """With successive texts of the same role as one message, which some models require."""
    rows: list[Message] = []
    for message in messages:
        last = rows[-1] if rows else {}
        if set(message) == set(last) == {"role", "content"} and message["role"] == last["role"]:
            rows[-1] = _row(message["role"], f"{last['content']}\n{message['content']}")
        else:
            rows.append(message)
    return tuple(rows)


def _row(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _marked(text: str) -> str:
    return f'<untrusted source="what the step gave">\n{as_data(text)}\n</untrusted>'
