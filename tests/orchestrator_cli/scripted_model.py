"""The models of a test run, as a cast: the model's name says who is asked, one per role.

`Cast` is the `reply` of an endpoint. Each role answers from its own list, in order; agents are
distinguished by their subtask's title, which begins their task. A role that has nothing left to say
answers 400, so that a test in which more is asked than was foreseen fails at once and says so.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from endpoint import Reply, fault, texts_of

Line = Reply | Callable[[dict[str, Any]], Reply]
"""A reply, or what makes one of the request."""

ROLES = ("planner", "agent", "toolsmith", "reviser", "judge", "answer")
MODELS = {f"ORCH_MODELS__{role.upper()}": f"openai/{role}" for role in ROLES}
"""The settings that make each role ask for a model of its own name."""


class Cast:
    def __init__(
        self,
        *,
        planner: Iterable[Line] = (),
        agents: Mapping[str, Iterable[Line]] | None = None,
        toolsmith: Iterable[Line] = (),
        reviser: Iterable[Line] = (),
        judge: Iterable[Line] = (),
        answer: Iterable[Line] = ("All is done.",),
    ) -> None:
        self._lines = {
            "planner": list(planner),
            "toolsmith": list(toolsmith),
            "reviser": list(reviser),
            "judge": list(judge),
            "answer": list(answer),
        }
        self._agents = {title: list(lines) for title, lines in (agents or {}).items()}
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any], _n: int) -> Reply:
        role = str(request["model"])
        lines = self._of_agent(request) if role == "agent" else self._lines.get(role, [])
        with self._lock:
            if not lines:
                return fault(400, f"the test foresaw no such request of the {role}")
            line = lines.pop(0)
        return line(request) if callable(line) else line

    def _of_agent(self, request: dict[str, Any]) -> list[Line]:
        text = texts_of(request)
        return next((lines for title, lines in self._agents.items() if f"{title}\n\n" in text), [])


def plan(*subtasks: dict[str, Any], **fields: Any) -> str:
    """A planner's reply."""
    return json.dumps({"goal": "what was asked is there", "subtasks": list(subtasks), **fields})


def answered(text: str) -> str:
    """The plan of a planner that knows the answer."""
    return plan({"id": "reply", "title": "Answer", "kind": "answer", "instruction": text})


def coder(name: str, after: Iterable[str] = (), **fields: Any) -> dict[str, Any]:
    """A subtask that a coder does; its title is `Do NAME`."""
    return _agent(name, "coder", after, fields)


def caller(name: str, after: Iterable[str] = (), **fields: Any) -> dict[str, Any]:
    """A subtask of an agent that calls tools; its title is `Do NAME`."""
    return _agent(name, "researcher", after, fields)


def _agent(name: str, role: str, after: Iterable[str], fields: dict[str, Any]) -> dict[str, Any]:
    base = {"id": name, "title": f"Do {name}", "kind": "agent", "role": role, "depends_on": list(after)}
    return base | {"instruction": f"Do the work of {name}."} | fields


def tool_call(name: str, tool: str, after: Iterable[str] = (), **inputs: Any) -> dict[str, Any]:
    """A subtask that is one call of a tool."""
    base = {"id": name, "title": f"Call {tool}", "kind": "tool", "tools": [tool]}
    return base | {"depends_on": list(after), "inputs": inputs}


def code(text: str) -> str:
    """A coder's step."""
    return f"Thought: on with it.\n<code>\n{text}\n</code>"


def process(name: str, of: str, after: Iterable[str] = (), **fields: Any) -> dict[str, Any]:
    """A subtask that a registered process does."""
    base = {"id": name, "title": f"Run {of}", "kind": "process", "process": of, "depends_on": list(after)}
    return base | fields


def judged(good: bool, reason: str) -> str:
    """A judge's reply."""
    return json.dumps({"good": good, "reason": reason})


def patch(reason: str, **changes: Any) -> str:
    """A reviser's reply that changes the plan."""
    return json.dumps({"decision": "patch", "reason": reason, **changes})


def decided(decision: str, reason: str) -> str:
    """A reviser's reply that changes nothing: `keep` or `stop`."""
    return json.dumps({"decision": decision, "reason": reason})
