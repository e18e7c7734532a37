"""An agent's attempt in this process: scripted replies, a real sandbox, and what the model was sent.

`reply` is text, a message of `endpoint.call`, several calls in a list, or a function of the request.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.events import Fact
from orchestrator_cli.execution.attempt import AttemptOutcome, AttemptSpec, CheckoutRef, Host
from orchestrator_cli.execution.kinds import run_attempt
from orchestrator_cli.models.model import Completion, FinishReason, Message, ModelRequest, ToolCall
from orchestrator_cli.plan import Subtask
from orchestrator_cli.roles import Role
from orchestrator_cli.values import Usage
from toolsmith.built import BuiltTool
from toolsmith.library.status import Judgement
from toolsmith.sandbox import choose_backend
from toolsmith.sandbox.proxy import Dialer

Reply = str | dict[str, Any] | Completion


def reply_of(reply: Reply, finish_reason: FinishReason = "stop") -> Completion:
    if isinstance(reply, Completion):
        return reply
    message = {"content": reply} if isinstance(reply, str) else reply
    calls = [
        ToolCall(id=one["id"], name=one["function"]["name"], arguments=one["function"]["arguments"])
        for one in message.get("tool_calls", ())
    ]
    return Completion(
        text=message.get("content") or "",
        tool_calls=tuple(calls),
        finish_reason=finish_reason,
        model="scripted",
        usage=Usage(calls=1, prompt_tokens=10, completion_tokens=5),
    )


@dataclass
class Scripted:
    """The services of a run whose model says the next reply each time."""

    replies: list[Reply | Callable[[ModelRequest], Reply]]
    requests: list[ModelRequest] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    uses: list[Judgement] = field(default_factory=list)
    stopped: str = ""

    def complete(self, request: ModelRequest, **_: Any) -> Completion:
        self.requests.append(request)
        reply = self.replies.pop(0)
        return reply_of(reply(request) if callable(reply) else reply)

    def emit(self, fact: Fact) -> None:
        self.facts.append(fact)

    def changed_files(self) -> list[str]:
        return []

    def check_room(self) -> None:
        pass

    def stopped_tool(self, name: str, version: int) -> str:
        return self.stopped

    def note_use(self, tool: BuiltTool, judgement: Judgement, seconds: float) -> None:
        self.uses.append(judgement)

    def of(self, kind: str) -> list[Any]:
        """The facts of a kind."""
        return [fact for fact in self.facts if type(fact).__name__ == kind]

    def messages(self, n: int = -1) -> tuple[Message, ...]:
        return self.requests[n].messages

    def texts(self, n: int = -1) -> str:
        return "\n".join(str(message["content"]) for message in self.messages(n))


def run_agent(
    folder: Path,
    replies: Iterable[Any],
    *,
    agent: str = "code",
    max_steps: int = 12,
    context_tokens: int | None = None,
    built: tuple[BuiltTool, ...] = (),
    backend: str = "unsafe",
    inputs: dict[str, Any] = {},  # noqa: B006  (read only)
    **subtask: Any,
) -> tuple[AttemptOutcome, Scripted]:
    """The outcome of an attempt in `folder`, and what was asked and emitted meanwhile."""
    services = Scripted(list(replies))
    work = {"kind": "agent", "role": "worker", "instruction": "Do it.", "tools": [one.name for one in built]}
    spec = AttemptSpec(
        run="run",
        subtask=Subtask.model_validate({"id": "one", "title": "Do one"} | work | subtask),
        attempt=1,
        plan_version=1,
        role=Role(name="worker", when="works", agent=agent),  # type: ignore[arg-type]
        checkout=CheckoutRef(folder=folder, root=folder),
        max_steps=max_steps,
        context_tokens=context_tokens,
        tools=built,
        inputs=inputs,
    )
    host = Host(backend=choose_backend(backend), dialer=Dialer(), cancellation=Cancellation())
    return run_attempt(spec, services, host), services  # type: ignore[arg-type]
