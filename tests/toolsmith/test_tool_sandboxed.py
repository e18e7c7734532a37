"""A built tool in the hands of smolagents' agents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from smolagents import ChatMessage, CodeAgent, MessageRole, Model, ToolCallingAgent
from smolagents.models import (
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    get_tool_json_schema,
)

from toolsmith.built import BuiltTool
from toolsmith.errors import ToolsmithError
from toolsmith.library import Library
from toolsmith.sandbox import SandboxError
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.smolagents_tools import SandboxedTool


class ScriptedModel(Model):  # type: ignore[misc]
    """Gives prepared messages in order and keeps what it was asked."""

    def __init__(self, *replies: ChatMessage) -> None:
        super().__init__()
        self.replies = list(replies)
        self.asked: list[str] = []

    def generate(self, messages: Any, **_: Any) -> ChatMessage:
        self.asked.append(str(messages))
        return self.replies.pop(0)


def calling(name: str, **arguments: Any) -> ChatMessage:
    call = ChatMessageToolCallFunction(name=name, arguments=arguments)
    return ChatMessage(
        role=MessageRole.ASSISTANT,
        content="",
        tool_calls=[ChatMessageToolCall(id="1", type="function", function=call)],
    )


def saying(code: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=f"Thought: so.\n<code>\n{code}\n</code>")


@pytest.fixture
def built(library: Library, sample: Any) -> BuiltTool:
    return library.add(sample.spec, sample.code, sample.report, sample.origin)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SandboxExecutor]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "a.txt").write_text("b a b\n")
    with SandboxExecutor(workspace) as executor:
        yield executor


def test_a_call_runs_in_the_sandbox_with_arguments_by_name_or_by_place(
    built: BuiltTool, executor: SandboxExecutor
) -> None:
    tool = SandboxedTool(built, executor)
    assert tool(path="a.txt", top=1) == {"b": 2}
    assert tool("a.txt", 1) == {"b": 2}
    assert tool("a.txt", top=None) == {"b": 2, "a": 1}
    assert tool({"path": "a.txt"}) == {"b": 2, "a": 1}


def test_the_tools_own_error_comes_out_first(built: BuiltTool, executor: SandboxExecutor) -> None:
    with pytest.raises(SandboxError, match=r"^FileNotFoundError: .*'none.txt'"):
        SandboxedTool(built, executor)(path="none.txt")


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "arguments.path: is lacking"),
        ((), {"path": "a.txt", "to": 1}, "arguments.to: is no input; the inputs are path, top"),
        (("a.txt", 1, 2), {}, "takes 2 arguments, not 3"),
        (("a.txt",), {"path": "a.txt"}, "got path by place and by name"),
    ],
)
def test_impossible_call_names_the_signature(
    built: BuiltTool, executor: SandboxExecutor, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=r"count_words\(path: string, top: integer = 3\)") as caught:
        SandboxedTool(built, executor)(*args, **kwargs)
    assert message in str(caught.value)


def test_agent_sees_signature_purpose_result_errors_and_files(
    built: BuiltTool, executor: SandboxExecutor
) -> None:
    tool = SandboxedTool(built, executor)
    for text in (tool.to_code_prompt(), tool.to_tool_calling_prompt()):
        assert "Count how often each word stands in a text file." in text
        assert "Call: count_words(path: string, top: integer = 3) -> object" in text
        assert "Raises FileNotFoundError when there is no file at path." in text
        assert "Reads files of the workspace." in text
    schema = get_tool_json_schema(tool)["function"]["parameters"]
    assert schema["required"] == ["path"]
    assert schema["properties"]["top"]["type"] == "integer"


def test_a_tool_calling_agent_uses_it(built: BuiltTool, executor: SandboxExecutor) -> None:
    model = ScriptedModel(
        calling("count_words", path="none.txt"),
        calling("count_words", path="a.txt", top=1),
        calling("final_answer", answer="b"),
    )
    agent = ToolCallingAgent([SandboxedTool(built, executor)], model, verbosity_level=0)
    assert agent.run("Which word is the most frequent?") == "b"
    assert "FileNotFoundError" in model.asked[1]
    assert "{'b': 2}" in model.asked[2]


def test_a_code_agent_calls_it_away_from_its_own_code(
    built: BuiltTool, executor: SandboxExecutor, tmp_path: Path
) -> None:
    model = ScriptedModel(
        saying("counts = count_words('a.txt', top=1)\nprint(counts)"),
        saying("try:\n    count_words('b.txt')\nexcept FileNotFoundError:\n    final_answer(counts)"),
    )
    (tmp_path / "empty").mkdir()
    with SandboxExecutor(tmp_path / "empty") as own:
        agent = CodeAgent([SandboxedTool(built, executor)], model, executor=own, verbosity_level=0)
        assert agent.run("Which word is the most frequent?") == {"b": 2}
    assert "{'b': 2}" in model.asked[1]


def test_a_code_agent_with_another_executor_calls_into_the_sandbox(
    built: BuiltTool, executor: SandboxExecutor
) -> None:
    model = ScriptedModel(saying("final_answer(count_words('a.txt'))"))
    agent = CodeAgent([SandboxedTool(built, executor)], model, verbosity_level=0)
    assert agent.run("Count the words.") == {"b": 2, "a": 1}


def test_it_is_not_exported_because_loading_would_run_it_on_the_host(
    built: BuiltTool, executor: SandboxExecutor, tmp_path: Path
) -> None:
    with pytest.raises(ToolsmithError, match="not exported"):
        SandboxedTool(built, executor).save(tmp_path)
