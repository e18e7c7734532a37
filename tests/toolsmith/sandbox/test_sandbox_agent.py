"""A smolagents CodeAgent with a scripted model, end to end on the sandbox."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from smolagents import CodeAgent, Model, tool
from smolagents.models import ChatMessage, MessageRole

from toolsmith.sandbox import SandboxExecutor


class Scripted(Model):  # type: ignore[misc]
    """Says one prepared piece of code after the other, and keeps what it was asked."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__(model_id="scripted")
        self._steps: Iterator[str] = iter(steps)
        self.asked: list[str] = []

    def generate(self, messages: list[ChatMessage], **_: Any) -> ChatMessage:
        self.asked.append(str([message.content for message in messages]))
        text = f"Thought: go\n<code>\n{next(self._steps)}\n</code>"
        return ChatMessage(role=MessageRole.ASSISTANT, content=text)


@tool  # type: ignore[untyped-decorator]
def web_search(query: str) -> str:
    """Searches the web.

    Args:
        query: what to look for
    """
    return f"{os.environ['SEARCH_KEY'][:3]}: results for {query}"


STEPS = [
    "found = web_search('sandboxes')\nprint(found, len(rows))",
    "open('out.csv', 'w').write('a\\n1\\n')\nimport os\n"
    "print(os.environ.get('SEARCH_KEY'))\nopen('/etc/shadow')",
    "import ctypes\nctypes.string_at(0)",
    "sorted(os.listdir('.'))",
    "final_answer({'sum': sum(rows), 'found': found})",
]


def test_an_agent_works_on_the_sandbox(sandbox: SandboxExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", "key-secret")
    model = Scripted(STEPS)
    agent = CodeAgent(tools=[web_search], model=model, executor=sandbox, max_steps=6, verbosity_level=0)
    answer = agent.run("go", additional_args={"rows": [1, 2, 39]})
    assert answer == {"sum": 42, "found": "key: results for sandboxes"}
    assert "key: results for sandboxes 3" in model.asked[1]
    assert "None" in model.asked[2]
    assert "  line 4: open('/etc/shadow')" in model.asked[2]
    assert "the step crashed (SIGSEGV)" in model.asked[3]
    assert "['out.csv']" in model.asked[4]
    assert not any("key-secret" in asked for asked in model.asked)


def test_a_managed_agent_runs_on_the_host(sandbox: SandboxExecutor) -> None:
    def ask(task: str) -> str:
        return f"done: {task}"

    sandbox.send_tools({"researcher": ask, "final_answer": SimpleNamespace()})
    assert sandbox("final_answer(researcher('look'))").output == "done: look"
