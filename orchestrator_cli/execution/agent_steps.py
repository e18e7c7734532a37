"""One step of an agent: the model is asked, and what it wants is done.

smolagents keeps the memory and counts the steps. How a reply is read, what is run, and what the model reads
of it next are ours.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import jinja2
from smolagents import CodeAgent, ToolCallingAgent
from smolagents.agents import ActionOutput, AgentGenerationError
from smolagents.local_python_executor import CodeOutput
from smolagents.memory import ActionStep, ToolCall
from smolagents.models import ChatMessage
from smolagents.utils import AgentError, AgentExecutionError, AgentParsingError

from orchestrator_cli.durable.foreign import first_line
from orchestrator_cli.execution.agent_images import LookedAt
from orchestrator_cli.execution.agent_messages import CallResult, first_messages, joined, step_messages
from orchestrator_cli.execution.agent_model import AgentModel, written_calls
from orchestrator_cli.execution.agent_outputs import REST
from orchestrator_cli.execution.code_block import CLOSING, NO_CODE, OPENING, find_code
from orchestrator_cli.models.endings import reply_fault
from orchestrator_cli.models.model import Message
from orchestrator_cli.values import AttachedFile

NO_CALL = (
    "Your reply calls no tool. Call one of the tools you were given; if the work is done, call final_answer "
    "with the value the task asks for."
)
NOT_ALONE = (
    "final_answer was called beside other tools, so it did not count: call it alone, in the next step."
)


AFTER_CODE = ("length", "time", "repetition")
"""How a reply may end after its code, which is run all the same."""


class _OurSteps:
    """What both kinds of agent share.

    smolagents compiles the template of a system prompt twice for each agent; here it is done once.
    """

    tools: dict[str, Any]
    instructions: str | None
    prompt_templates: Any
    memory: Any
    model: AgentModel
    logger: Any
    shorten: Callable[[str], str]
    """What the model reads of a long output."""
    attached: Sequence[AttachedFile]
    """The attachments that it is shown."""
    looked: LookedAt
    """The images that it has looked at."""
    shortened = 0
    """How many of the first steps are shortened."""

    def initialize_system_prompt(self) -> str:
        return _compiled(self.prompt_templates["system_prompt"]).render(
            tools=self.tools,
            custom_instructions=self.instructions,
            **self.prompt_templates["said"],
            managed_agents={},
            authorized_imports="You can import from any package you want.",
            code_block_opening_tag=OPENING,
            code_block_closing_tag=CLOSING,
        )

    def ask(self, step: ActionStep, tools: list[Any] | None = None) -> ChatMessage:
        """The model's reply to everything so far, kept in `step`. Raises `AgentGenerationError`."""
        self.looked.end_step(step.step_number - 1)
        try:
            said = self.model.generate(self._fitting(tools), tools_to_call_from=tools)
        except Exception as exc:
            raise AgentGenerationError(str(exc), self.logger) from exc
        step.model_output_message, step.model_output = said, said.content
        step.token_usage = said.token_usage
        return said

    def _fitting(self, tools: list[Any] | None) -> tuple[Message, ...]:
        """The messages; old steps are shortened, and stay so, before the context is full."""
        messages, last = self._messages(), len(self.memory.steps) - 2
        share = 1.0
        while self.shortened < last and not self.model.has_room(messages, tools, share):
            self.shortened, share = self.shortened + 1, REST
            messages = self._messages()
        return messages

    def _messages(self) -> tuple[Message, ...]:
        steps = [one for one in self.memory.steps if isinstance(one, ActionStep)]
        rows = (self._rows(one, is_short=n < self.shortened) for n, one in enumerate(steps))
        return joined(
            [
                *first_messages(self.memory, self.attached),
                *(message for messages in rows for message in messages),
            ]
        )

    def _rows(self, step: ActionStep, *, is_short: bool) -> list[Message]:
        images = [] if is_short else self.looked.message(step.step_number)
        return [*self.of_step(step, is_short=is_short), *images]

    def of_step(self, step: ActionStep, *, is_short: bool) -> list[Message]:
        return step_messages(step, is_short=is_short)


class CodingAgent(_OurSteps, CodeAgent):  # type: ignore[misc]  # smolagents ships no types
    """An agent that writes code."""

    def __init__(
        self,
        *,
        observe: Callable[[CodeOutput], str],
        shorten: Callable[[str], str],
        attached: Sequence[AttachedFile],
        looked: LookedAt,
        **rest: Any,
    ) -> None:
        """`observe`: what the model reads of a step's output."""
        self._observe, self.shorten, self.attached, self.looked = observe, shorten, attached, looked
        self.output = CodeOutput(output=None, logs="", is_final_answer=False)
        """That of the last step."""
        super().__init__(**rest)

    def _step_stream(self, step: ActionStep) -> Iterator[ActionOutput]:
        said = self.ask(step)
        block = find_code(said.content or "")
        is_whole = block is not None and block.is_closed and said.raw.finish_reason in AFTER_CODE
        if not is_whole and (fault := reply_fault(said.raw)):
            raise AgentParsingError(f"Nothing was done: {fault}", self.logger)
        if block is None:
            raise AgentParsingError(NO_CODE, self.logger)
        step.model_output, step.code_action = block.text, block.code
        self.output = self._run(block.code, step)
        step.observations = self.shorten(self._observe(self.output))
        step.action_output = self.output.output
        yield ActionOutput(output=self.output.output, is_final_answer=self.output.is_final_answer)

    def _run(self, code: str, step: ActionStep) -> CodeOutput:
        try:
            return self.python_executor(code)
        except Exception as exc:
            logs = str(self.python_executor.state.get("_print_outputs", ""))
            self.output = CodeOutput(output=None, logs=logs, is_final_answer=False)
            step.observations = self.shorten(f"Execution logs:\n{logs}") if logs else None
            raise AgentExecutionError(str(exc), self.logger) from exc


class CallingAgent(_OurSteps, ToolCallingAgent):  # type: ignore[misc]
    """An agent that calls tools. Calls of one step are made side by side."""

    def __init__(
        self,
        *,
        shorten: Callable[[str], str],
        attached: Sequence[AttachedFile],
        looked: LookedAt,
        **rest: Any,
    ) -> None:
        self.shorten, self.attached, self.looked = shorten, attached, looked
        self._results: dict[int, list[CallResult]] = {}
        """By step: the results of the calls that the model made as such, or of several that it wrote."""
        super().__init__(**rest)

    def of_step(self, step: ActionStep, *, is_short: bool) -> list[Message]:
        return step_messages(step, self._results.get(step.step_number, ()), is_short=is_short)

    def _step_stream(self, step: ActionStep) -> Iterator[ActionOutput]:
        said = self.ask(step, list(self.tools.values()))
        is_native = bool(said.tool_calls)
        calls = self._calls(said, step)
        results = list(self._made(calls))
        texts = [
            CallResult(call.id, call.name, call.arguments, self.shorten(str(gave).strip()), is_native)
            for call, gave in results
        ]
        if is_native or len(texts) > 1:
            self._results[step.step_number] = texts
        step.tool_calls = calls
        step.observations = "\n".join(one.text for one in texts)
        for _, gave in results:
            if isinstance(gave, AgentError):
                raise gave
        finals = [gave for call, gave in results if call.name == "final_answer"]
        if finals and len(calls) > 1:
            raise AgentExecutionError(NOT_ALONE, self.logger)
        step.action_output = finals[0] if finals else None
        yield ActionOutput(output=step.action_output, is_final_answer=bool(finals))

    def _calls(self, said: ChatMessage, step: ActionStep) -> list[ToolCall]:
        """The calls of a reply, also of one that writes a call as text. Raises `AgentParsingError`."""
        if fault := reply_fault(said.raw):
            raise AgentParsingError(f"Nothing was done: {fault}", self.logger)
        written = not said.tool_calls
        try:
            said.tool_calls = said.tool_calls or written_calls(said.content or "") or None
            found = self.model.parse_tool_calls(said).tool_calls
        except Exception as exc:  # smolagents raises many kinds
            raise AgentParsingError(NO_CALL, self.logger) from exc
        taken = {one.id for results in self._results.values() for one in results}
        calls = []
        for n, one in enumerate(found):
            ident = f"call_{step.step_number}_{n}" if written or not one.id or one.id in taken else one.id
            taken.add(ident)
            calls.append(ToolCall(name=one.function.name, arguments=one.function.arguments, id=ident))
        return calls

    def _made(self, calls: list[ToolCall]) -> Iterator[tuple[ToolCall, Any]]:
        """Each call with its value, or with the error that it met."""
        if len(calls) == 1:
            yield calls[0], self._value_of(calls[0])
            return
        with ThreadPoolExecutor() as pool:
            running = [pool.submit(copy_context().run, self._value_of, call) for call in calls]
            yield from ((call, value.result()) for call, value in zip(calls, running, strict=True))

    def _value_of(self, call: ToolCall) -> Any:
        try:
            return self.execute_tool_call(call.name, call.arguments or {})
        except AgentError as exc:
            return exc


@functools.cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["first_line"] = first_line
    return environment.from_string(template)
