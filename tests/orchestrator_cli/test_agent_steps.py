"""An agent that is left in the midst of a step ends quietly."""

import gc
from typing import Any

import pytest
from smolagents import LogLevel, Model, ToolCallingAgent
from smolagents.models import (
    ChatMessage,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    MessageRole,
)

from orchestrator_cli.execution.agents import stepping


class Finishing(Model):
    """Calls final_answer at once."""

    def generate(self, messages: Any, **_: Any) -> ChatMessage:
        function = ChatMessageToolCallFunction(name="final_answer", arguments='{"answer": 1}')
        call = ChatMessageToolCall(id="c", type="function", function=function)
        return ChatMessage(role=MessageRole.ASSISTANT, content=None, tool_calls=[call])


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("error", [None, KeyError("the reason")])
def test_an_agent_that_is_left_in_the_midst_of_a_step_ends_quietly(
    after: int, error: Exception | None
) -> None:
    """What Python would print of it is an error here."""
    agent = ToolCallingAgent(tools=[], model=Finishing(), verbosity_level=LogLevel.OFF)
    caught = None
    try:
        with stepping(agent, "Do it.") as steps:
            for _ in range(after):
                next(steps)
            if error is not None:
                raise error
    except KeyError as exc:
        caught = exc
    del steps
    gc.collect()
    assert caught is error
