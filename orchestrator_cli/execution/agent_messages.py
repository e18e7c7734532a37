"""What an agent's model reads: its instructions, its task, and what each step said and gave.

A call of a tool that the model made as such goes back the same way, with a result for each call. Several
calls that it wrote as text get their results in one message. Results are in the order of the calls; each of
several has its call above it, since some models do not see which call a result belongs to.

What a step gave is marked as data: it can hold text of files and pages. Corrections of the model's form and
the reminder to hand over a value are ours, and are not.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smolagents.memory import ActionStep, AgentMemory
from smolagents.utils import AgentParsingError

from orchestrator_cli.durable.foreign import as_data, excerpt, foreign_line
from orchestrator_cli.execution.code_block import CLOSING, OPENING, find_code
from orchestrator_cli.models.model import Message, with_images
from orchestrator_cli.values import AttachedFile

NOT_HANDED_OVER = (
    "(Nothing was handed over: only you see this. If it is the result the task asks for, call final_answer "
    "with it.)"
)
"""At the end of an observation: the value that a step showed could be the result."""
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
    is_native: bool = True
    """Whether the model made the call as such, and did not write it as text."""

    @property
    def call(self) -> Message:
        """As an OpenAI message has it. Some providers refuse arguments that are no JSON object."""
        given = self.arguments if isinstance(self.arguments, dict) else {"text": self.arguments}
        function = {"name": self.name, "arguments": json.dumps(given, ensure_ascii=False)}
        return {"id": self.id, "type": "function", "function": function}

    @property
    def title(self) -> str:
        """The call on one line."""
        given = json.dumps(self.arguments, ensure_ascii=False, default=str)
        return as_data(f"{foreign_line(self.name, 100)}({foreign_line(given, SHORT)})")

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
        results: those of the calls that the model made as such, or of several that it wrote.
        is_short: keep the model's words, and only the beginning of what it ran and of what that gave.
    """
    shown = _head if is_short else str
    results = [one.short for one in results] if is_short else results
    if results and results[0].is_native:
        return [_with_calls(str(step.model_output or "").strip(), results), *_results(step, results, shown)]
    said = _said(step, is_short)
    rows = [_row("assistant", said)] if said else []
    if results:
        rows.append(_row("user", "\n".join(_titled(n, one) for n, one in enumerate(results, 1))))
    elif step.observations is not None:
        gave, reminder, _ = step.observations.partition(f"\n{NOT_HANDED_OVER}")
        rows.append(_row("user", _marked(f"Observation:\n{shown(gave)}") + reminder))
    if isinstance(step.error, AgentParsingError):
        rows.append(_row("user", str(step.error)))
    elif step.error is not None and not _is_in(shown(str(step.error)), results):
        rows.append(_row("user", _marked(f"Error:\n{shown(str(step.error))}")))
    return rows


def _said(step: ActionStep, is_short: bool) -> str:
    text = str(step.model_output or "").strip()
    block = find_code(text) if is_short else None
    if block is None:
        return text
    return f"{block.thought}{OPENING}\n{_head(block.code)}\n{CLOSING}"


def _head(text: str) -> str:
    return excerpt(text, SHORT)


def _with_calls(said: str, results: Sequence[CallResult]) -> Message:
    return {"role": "assistant", "content": said or None, "tool_calls": [one.call for one in results]}


def _results(
    step: ActionStep, results: Sequence[CallResult], shown: Callable[[str], str]
) -> Iterator[Message]:
    """A result for each call. What the step as a whole met, such as a refused value, is with the last one."""
    error = shown(str(step.error)) if step.error else ""
    for number, one in enumerate(results, 1):
        said_later = one is results[-1] and not _is_in(error, results)
        text = "\n".join(filter(None, [one.text, error if said_later else ""]))
        content = _titled(number, replace(one, text=text)) if len(results) > 1 else _marked(text)
        yield {"role": "tool", "tool_call_id": one.id, "content": content}


def _is_in(error: str, results: Sequence[CallResult]) -> bool:
    """Whether an error is what a call came to."""
    return any(error in one.text for one in results)


def _titled(number: int, one: CallResult) -> str:
    return f"Result of call {number}, {one.title}:\n{_marked(one.text)}"


def first_messages(memory: AgentMemory, attached: Iterable[AttachedFile] = ()) -> list[Message]:
    """The instructions and the task, with the images that were attached to it."""
    return [
        _row("system", memory.system_prompt.system_prompt),
        with_images(f"New task:\n{memory.steps[0].task}", attached),
    ]


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """With successive texts of the same role as one message, which some models require."""
    rows: list[Message] = []
    for message in messages:
        last = rows[-1] if rows else {}
        if set(message) == set(last) == {"role", "content"} and message["role"] == last["role"]:
            rows[-1] = {"role": message["role"], "content": _joined(last["content"], message["content"])}
        else:
            rows.append(message)
    return tuple(rows)


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n{other}"
    return [part for content in (one, other) for part in text_parts(content)]


def text_parts(content: Any) -> list[dict[str, Any]]:
    """The content of a message as parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _row(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _marked(text: str) -> str:
    return f'<untrusted source="what the step gave">\n{as_data(text)}\n</untrusted>'
