"""A model with a fixed latency, in this process or behind HTTP in one of its own: python serving.py SECONDS

Asked as planner with a prompt that says "N at once", it plans N agents that need nothing of each other and
one that needs them all; as an agent it gives its value at once. Each reply takes the same time.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUE = json.dumps({"answer": "found"})


def prompt(branches: int) -> str:
    return f"Ask {branches} at once."


def plan(text: str) -> str:
    """The plan that a request to a planner is answered with."""
    found = re.findall(r"Ask (\d+) at once", text)
    names = [f"part-{n}" for n in range(int(found[-1]))]
    fields = {"kind": "agent", "role": "researcher"}
    parts = [{"id": name, "title": name, "instruction": "Find it.", **fields} for name in names]
    join = {"id": "join", "title": "join", "instruction": "Put it together.", "depends_on": names, **fields}
    return json.dumps({"goal": "all is put together", "subtasks": [*parts, join]})


class FixedModel:
    """The model in this process."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    def complete(self, request: Any, *_: Any, **__: Any) -> Any:
        from orchestrator_cli.models.model import Completion, ToolCall
        from orchestrator_cli.values import Usage

        time.sleep(self._latency_s)
        usage = Usage(calls=1)
        if request.role == "agent":
            call = ToolCall(id="1", name="final_answer", arguments=VALUE)
            return Completion(text="", tool_calls=(call,), model="fixed", usage=usage)
        text = plan(str(request.messages)) if request.role == "planner" else "All is done."
        return Completion(text=text, model="fixed", usage=usage)


@contextlib.contextmanager
def serving(latency_s: float) -> Iterator[None]:
    """The model behind HTTP, where LiteLLM looks for OpenAI's models."""
    command = [sys.executable, __file__, str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.environ |= {"OPENAI_BASE_URL": server.stdout.readline().strip(), "OPENAI_API_KEY": "none"}
        try:
            yield
        finally:
            server.stdin.close()


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from endpoint import Endpoint, call, texts_of

    latency_s = float(sys.argv[1])

    def reply(request: dict[str, Any], _n: int) -> dict[str, Any]:
        if request["model"] == "agent":
            said = call("final_answer", json.loads(VALUE))
        else:
            text = plan(texts_of(request)) if request["model"] == "planner" else "All is done."
            said = {"content": text}
        return {**said, "sleep": latency_s}

    with Endpoint(reply) as endpoint:
        print(endpoint.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
