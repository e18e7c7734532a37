"""The demo's recorded replies over HTTP, with faults: the model of runs that meet trouble.

A request is matched to the exchange that is due by who asks (role, and subtask or tool) and by which
of the recorded replies of that one are in its conversation already. So a request that is made again,
a conversation that took a turn through a fault, and a repeated attempt all get what is due.
"""

import json
import threading
from collections.abc import Mapping
from typing import Any

from endpoint import Reply, call, fault
from scripted_model import code

from orchestrator_cli.models.sources import Recording

PASSING = ("429", "500", "late", "cut")
"""Faults of a provider; asked again, it answers."""
WRONG = ("prose", "schema", "empty")
"""Replies that cannot be used; what was asked for comes when the model is asked again."""
FAULTS = (*PASSING, *WRONG)
LATE_S = 60.0

SHOWN = 60
"""So much of the beginning of a reply makes it known among its neighbours."""


class Replay:
    """The `reply` of an endpoint that plays a recording.

    Args:
        faults: by the names of exchanges, such as `agent:create#1`; the first request that is due one of
            them meets its fault instead.
    """

    def __init__(self, recording: Recording, faults: Mapping[str, str] | None = None) -> None:
        self._recording = recording
        self._faults = dict(faults or {})
        self._titles = _titles(recording)
        self._lock = threading.Lock()
        self.met: list[str] = []
        """Where faults were met."""

    def __call__(self, request: dict[str, Any], _n: int) -> Reply:
        name = self.due(request)
        if name is None:
            return fault(400, f"the recording foresees no such request of the {request['model']}")
        reply = self._recorded(name)
        with self._lock:
            fault_ = self._faults.pop(name, None)
            if fault_ is None:
                return reply
            self.met.append(name)
        return _broken(fault_, name, reply, request)

    def due(self, request: dict[str, Any]) -> str | None:
        """The name of the exchange that a request is due."""
        who = self._who(request)
        names = [name for name in self._recording.exchanges if name.rpartition("#")[0] == who]
        if who.startswith("toolsmith:"):
            return self._due_of_toolsmith(names, _said(request, "user"))
        answered = _said(request, "assistant")
        for name in names:
            text = self._recording.exchanges[name]["reply"]["text"]
            if not text or text[:SHOWN] not in answered:
                return name
        return names[-1] if names else None

    def _due_of_toolsmith(self, names: list[str], prompt: str) -> str:
        """Its prompts are conversations of their own: the specification, the cases, and rounds of code."""
        spec, cases, *codes = names
        if "You write one Python tool" not in prompt:
            return cases if "You write the cases" in prompt else spec
        modules = [self._recording.exchanges[name]["reply"]["text"].split("```")[1] for name in codes]
        tried = [m.removeprefix("python").strip() in prompt for m in modules]
        return codes[min(tried.index(True) + 1, len(codes) - 1) if any(tried) else 0]

    def _who(self, request: dict[str, Any]) -> str:
        role = str(request["model"])
        text = _said(request, "user")
        if role == "agent":
            return next((f"agent:{name}" for name, title in self._titles if f"{title}\n\n" in text), role)
        if role == "toolsmith":
            return next(n for n in self._recording.exchanges if n.startswith("toolsmith:")).rpartition("#")[0]
        return role

    def _recorded(self, name: str) -> dict[str, Any]:
        reply = self._recording.exchanges[name]["reply"]
        calls = [
            {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
            for c in reply["tool_calls"]
        ]
        return {"content": reply["text"], "tool_calls": calls}


def _titles(recording: Recording) -> list[tuple[str, str]]:
    """Subtasks with the lines that their tasks begin with, of the plan and of its changes."""
    rows = []
    for name, exchange in recording.exchanges.items():
        if name.startswith(("planner#", "reviser#")):
            written = json.loads(exchange["reply"]["text"])
            rows += [*written.get("subtasks", ()), *written.get("add", ()), *written.get("replace", ())]
    return [(row["id"], f"New task:\n{row['title']}") for row in rows]


def _said(request: dict[str, Any], role: str) -> str:
    return "\n".join(str(m.get("content") or "") for m in request["messages"] if m["role"] == role)


def _broken(fault_: str, name: str, reply: dict[str, Any], request: dict[str, Any]) -> Reply:
    match fault_:
        case "429":
            return fault(429, "slow down", retry_after="0")
        case "500":
            return fault(500, "it is broken")
        case "late":
            return reply | {"sleep": LATE_S}
        case "cut":
            return reply | {"cut": True}
        case "prose":
            return "I would look at it from all sides first, and then say what I think of it."
        case "empty":
            return {"content": ""}
        case "schema":
            return _of_another_shape(name, reply, request)
    raise AssertionError(fault_)


def _of_another_shape(name: str, reply: dict[str, Any], request: dict[str, Any]) -> Reply:
    if name.startswith("agent:"):
        wrong = {"verdict": 42}
        return (
            call("final_answer", {"answer": wrong})
            if request.get("tools")
            else code(f"final_answer({wrong})")
        )
    if "```python" in reply["content"]:
        return "```python\nverdict = 42\n```"
    return json.dumps({"verdict": 42})
