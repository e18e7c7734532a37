"""The MCP server of `orch mcp`, over standard input and output, with the official library.

It serves every tool of the library that needs no approval, and `ask`. When a tool is built, edited,
disabled or removed, the client is notified that the list has changed. Standard output carries the protocol
only; messages for people go to standard error.

Not covered: prompts, resources and questions back to the client (elicitation).
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import JsonValue

from orchestrator_cli import __version__
from orchestrator_cli.cli.mcp_server.calls import AskCall, Served, ServedCall, answer_text, served
from orchestrator_cli.durable.foreign import as_data
from orchestrator_cli.errors import OrchError
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.data_answer import check_schema
from orchestrator_cli.settings import Settings
from toolsmith.built import BuiltTool
from toolsmith.library import Library
from toolsmith.smolagents_tools import describe
from toolsmith.spec import Input

ASK = "ask"
LOOK_S = 1.0
"""How often the library is checked for changes."""
INSTRUCTIONS = (
    "Tools that orch has built and proved run in a sandbox on one folder, the workspace. `ask` hands a whole "
    "request to orch, which plans it, works on the workspace and answers; that takes minutes and costs money."
)
ABOUT_ASK = (
    "Have orch do what a prompt asks: it plans the work as a graph of subtasks, runs them with agents on the "
    "files of its workspace, and answers. Takes minutes and asks paid models. Everything it does is in "
    "fileLog.md of the workspace and can be taken back with `orch undo RUN`."
)


async def serve(settings: Settings, flags: tuple[str, ...], notify: Callable[[list[str]], None]) -> None:
    """Serve one client until it disconnects. `flags` are for its runs; `notify` shows lines to people."""
    service = _Service(settings, flags, Library(settings.home / "tools"), notify)
    server = service.server()
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    async with (
        stdio_server() as (incoming, outgoing),
        service.watching_connection(incoming) as messages,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(service.watch)
        await server.run(messages, outgoing, options)
        tasks.cancel_scope.cancel()


@dataclass
class _Service:
    settings: Settings
    flags: tuple[str, ...]
    library: Library
    notify: Callable[[list[str]], None]
    connected: bool = True
    _bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    _session: ServerSession | None = None
    _listed: Mapping[str, str] = field(default_factory=dict)
    """The fingerprints of the tools that the client was shown last, by name."""
    _reported: tuple[str, ...] = ()
    """Why tools are not served, as far as it was shown."""

    def __post_init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.settings.max_parallel)

    def server(self) -> Server[Any]:
        return Server(
            "orch",
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus),
        )

    async def _list(
        self,
        context: ServerRequestContext[Any],
        _params: types.PaginatedRequestParams | None,
    ) -> types.ListToolsResult:
        self._session = context.session
        found = await self._served()
        self._listed = {tool.name: tool.fingerprint for tool in found.tools}
        return types.ListToolsResult(tools=[ask_tool(), *map(tool_of, found.tools)])

    async def _call(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        self._session = context.session
        arguments = params.arguments or {}
        if params.name == ASK:
            return await self._ask(context, arguments)
        found = await self._served()
        tool = next((tool for tool in found.tools if tool.name == params.name), None)
        if tool is None:
            why = [reason for reason in found.refused if f"'{params.name}'" in reason]
            raise MCPError(types.INVALID_PARAMS, " ".join(why) or f"There is no tool {params.name}.")
        if self._listed.get(tool.name, tool.fingerprint) != tool.fingerprint:
            changed = f"The tool '{tool.name}' has changed since it was listed. List the tools again."
            raise MCPError(types.INVALID_PARAMS, changed)
        return await self._use(tool, arguments)

    async def _use(self, tool: BuiltTool, arguments: Mapping[str, JsonValue]) -> types.CallToolResult:
        call = ServedCall(tool, arguments, self.settings)

        async def end_with_the_request() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                call.end()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end_with_the_request)
                # Wait for its thread, so that it leaves no half-done work in the workspace.
                with anyio.CancelScope(shield=True):
                    value, error = await anyio.to_thread.run_sync(_outcome, call, limiter=self._limiter)
                tasks.cancel_scope.cancel()
        finally:
            # Between two awaits, a cancelled request would continue as if it were not cancelled.
            await anyio.lowlevel.checkpoint_if_cancelled()
        if error is not None:
            return failed(f"{error}\n(run {call.run})" if call.run else str(error))
        structured = value if isinstance(value, dict) else {"result": value}
        return types.CallToolResult(
            content=[_text(as_text(value))], structured_content=structured, _meta={"orch/run": call.run}
        )

    async def _ask(
        self, context: ServerRequestContext[Any], arguments: Mapping[str, JsonValue]
    ) -> types.CallToolResult:
        prompt, schema = arguments.get("prompt"), arguments.get("schema")
        if not isinstance(prompt, str) or not arguments.keys() <= {"prompt", "schema"}:
            raise MCPError(types.INVALID_PARAMS, "ask takes prompt, a text, and schema, a JSON Schema.")
        try:
            if schema is not None:
                check_schema(schema)
        except OrchError as exc:
            raise MCPError(types.INVALID_PARAMS, exc.message) from exc
        lines = 0

        async def progress(line: str) -> None:
            nonlocal lines
            lines += 1
            await context.session.report_progress(lines, message=line)

        call = AskCall(self.settings, self.flags)
        wanted = schema if isinstance(schema, dict) else None
        answer = await call.ask(prompt, progress, schema=wanted, connected=lambda: self.connected)
        return types.CallToolResult(
            content=[_text(answer_text(answer))],
            structured_content=answer,
            is_error=answer["outcome"] not in ("completed", "paused"),
        )

    async def _served(self) -> Served:
        found = await anyio.to_thread.run_sync(served, self.library, self.settings)
        taken = [f"The tool '{ASK}' of the library is not served: the name is taken."]
        kept = tuple(tool for tool in found.tools if tool.name != ASK)
        found = Served(kept, (*found.refused, *(taken if len(kept) < len(found.tools) else ())))
        self.notify([reason for reason in found.refused if reason not in self._reported])
        self._reported = found.refused
        return found

    async def watch(self) -> None:
        """Notify the client when the list changes."""
        seen: tuple[tuple[str, int], ...] | None = None
        last: frozenset[tuple[str, str, str]] | None = None
        while True:
            now = await anyio.to_thread.run_sync(lambda: tuple(file_times(self.library.root)))
            if now != seen:
                seen, before = now, last
                found = (await self._served()).tools
                last = frozenset((tool.name, tool.sha256, tool.spec.model_dump_json()) for tool in found)
                if before is not None and before != last:
                    await self._bus.publish(ToolsListChanged())
                    if self._session and self._session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                        await self._session.send_tool_list_changed()
            await anyio.sleep(LOOK_S)

    @asynccontextmanager
    async def watching_connection(self, incoming: Any) -> AsyncIterator[Any]:
        """The stream of messages. `connected` becomes False when it ends."""
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def relay() -> None:
            async with send:
                async for message in incoming:
                    await send.send(message)
                self.connected = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay)
            yield receive
            tasks.cancel_scope.cancel()


def _outcome(call: ServedCall) -> tuple[JsonValue, OrchError | None]:
    try:
        return call.make(), None
    except OrchError as exc:
        return None, exc


def file_times(root: Path) -> Iterator[tuple[str, int]]:
    """The files of the library and when they were changed; cheap enough for every second."""
    try:
        with os.scandir(root) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.name == ".locks":
            continue
        try:
            yield entry.path, entry.stat(follow_symlinks=False).st_mtime_ns
        except OSError:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from file_times(Path(entry.path))


def tool_of(tool: BuiltTool) -> types.Tool:
    """A tool of the library as MCP describes one.

    The annotations are what its sandbox enforces at every call, and say no more. `destructive` is also what
    reaches a server, of which no one here knows what it does.
    """
    spec = tool.spec
    read_only = spec.workspace != "write" and not spec.network
    return types.Tool(
        name=spec.name,
        description=describe(spec),
        input_schema={
            "type": "object",
            "properties": {name: _schema(given) for name, given in spec.inputs.items()},
            "required": [name for name, given in spec.inputs.items() if given.required],
            "additionalProperties": False,
        },
        output_schema=_output_schema(spec.output_type),
        annotations=types.ToolAnnotations(
            read_only_hint=read_only,
            destructive_hint=not read_only,
            open_world_hint=bool(spec.network),
        ),
    )


def ask_tool() -> types.Tool:
    prompt = {"type": "string", "description": "What is to be done, complete in itself.", "minLength": 1}
    return types.Tool(
        name=ASK,
        description=ABOUT_ASK,
        input_schema={
            "type": "object",
            "properties": {
                "prompt": prompt,
                "schema": {"type": "object", "description": "A JSON Schema that the answer has to satisfy."},
            },
            "required": ["prompt"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "run": {"type": ["string", "null"]},
                "outcome": {"enum": ["completed", "failed", "interrupted", "paused", "cancelled"]},
                "answer": {"type": "string"},
                "value": {"description": "The answer as data, if a schema was given."},
                "approvals": {"type": "array", "items": {"type": "object"}},
                "go_on": {"type": ["string", "null"]},
            },
            "required": ["run", "outcome", "answer"],
        },
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True),
    )


def _schema(given: Input) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": as_data(given.description)}
    if given.type != "any":
        schema["type"] = [given.type, "null"] if given.nullable else given.type
    # A default that is obeyed or invisible where it is shown is left out: it cannot be written otherwise.
    if given.default is None or as_data(given.default) != str(given.default):
        return schema
    return schema | {"default": given.default}


def _output_schema(kind: str) -> dict[str, Any]:
    """The schema of the structured result: an object as it is, anything else under `result`."""
    if kind == "object":
        return {"type": "object"}
    result = {} if kind == "any" else {"type": kind}
    return {"type": "object", "properties": {"result": result}, "required": ["result"]}


def failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[_text(text)], is_error=True)


def _text(text: str) -> types.TextContent:
    return types.TextContent(text=text)
