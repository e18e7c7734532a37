"""An attempt in a process of its own: the spec goes in through a pipe, the outcome comes out.

What the attempt asks of its run goes the same way, a line of JSON each, and is answered by the real services.
`elsewhere` is the run's side, the program is the attempt's. Nothing but JSON crosses.
"""

import inspect
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.events import AnyFact
from orchestrator_cli.execution.attempt import (
    AttemptOutcome,
    AttemptServices,
    AttemptSpec,
    ErrorValue,
    Host,
)
from orchestrator_cli.execution.kinds import run_attempt
from toolsmith.sandbox import choose_backend
from toolsmith.sandbox.proxy import Dialer

CALLS = [name for name in vars(AttemptServices) if not name.startswith("_")]
LOCAL = {"on_delta", "cancellation"}
"""What does not cross."""


def _types(name: str) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(getattr(AttemptServices, name))
    if name == "emit":
        hints["fact"] = AnyFact
    return {key: TypeAdapter(hint) for key, hint in hints.items() if key not in LOCAL}


TYPES = {name: _types(name) for name in CALLS}


def elsewhere(spec: AttemptSpec, services: AttemptServices, host: Host) -> AttemptOutcome:
    """Have the program below make the attempt, and answer what it asks."""
    if all(tool.name != "fetch_url" for tool in spec.host_tools):
        with pytest.raises(ValueError, match="not a tool of this attempt"):
            services.call_tool("fetch_url", {"url": "http://127.0.0.1/"})
    command = [sys.executable, __file__, "attempt", host.backend.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with host.cancellation.calling(process.kill):
            process.stdin.write(spec.model_dump_json() + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "outcome" in message:
                    return AttemptOutcome.model_validate(message["outcome"])
                process.stdin.write(_answered(services, message) + "\n")
                process.stdin.flush()
        host.cancellation.check()
        raise RuntimeError("the worker ended without an outcome")


def _answered(services: AttemptServices, message: dict[str, Any]) -> str:
    name = message["call"]
    types = TYPES[name]
    try:
        given = {key: types[key].validate_python(value) for key, value in message["given"].items()}
        value = getattr(services, name)(**given)
    except Exception as exc:
        return json.dumps({"error": ErrorValue.of(exc).model_dump(mode="json")})
    return json.dumps({"value": types["return"].dump_python(value, mode="json")})


class PipedServices:
    """The services of the other side."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def __getattr__(self, name: str) -> Any:
        if name not in CALLS:
            raise AttributeError(name)
        types, signature = TYPES[name], inspect.signature(getattr(AttemptServices, name))

        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(self, *args, **kwargs).arguments
            given = {
                key: types[key].dump_python(value, mode="json")
                for key, value in bound.items()
                if key in types
            }
            self._out.write(json.dumps({"call": name, "given": given}) + "\n")
            self._out.flush()
            reply = json.loads(sys.stdin.readline())
            if "error" in reply:
                raise ErrorValue.model_validate(reply["error"]).error()
            return types["return"].validate_python(reply["value"])

        return call


def ask(prompt: str, answer: str) -> None:
    """`orch ask -y`, with every attempt made elsewhere and `answer` given to each question for one."""
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.runtime import open_run
    from orchestrator_cli.settings import load_settings

    settings = load_settings({"yes": True}, Path.cwd())
    with open_run(settings, [], attended=True, make_attempt=elsewhere) as run:

        def answering() -> None:
            while run.cancellation.reason is None:
                for question in run.broker.open:
                    if question.what == "question":
                        run.broker.answer(question.id, "answered", value=answer)
                time.sleep(0.05)

        threading.Thread(target=answering, daemon=True).start()
        print(run_prompt(prompt, run).answer)  # noqa: T201


def attempt(backend: str) -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    spec = AttemptSpec.model_validate_json(sys.stdin.readline())
    host = Host(choose_backend(backend), Dialer(), Cancellation())
    outcome = run_attempt(spec, PipedServices(out), host)
    out.write(json.dumps({"outcome": outcome.model_dump(mode="json")}) + "\n")


if __name__ == "__main__":
    {"ask": ask, "attempt": attempt}[sys.argv[1]](*sys.argv[2:])
