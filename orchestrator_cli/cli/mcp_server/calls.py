"""One call of `orch mcp` or `orch tools run`: a tool of the library; and a whole run of `orch ask`.

A call of a tool is a run of its own, without a model. It is journaled, logged, committed and undone like
every run. The tool runs in the sandbox on a checkout of the workspace, with what its specification asks for
and nothing else. Only tools that need no approval are served: none that is disabled, in quarantine, edited
or unreadable, and none that asks for a domain, a secret or a package that the settings do not allow.

`ask` runs in a process of its own, so that it cannot disturb the protocol or other runs, and several can
work at once. It sends events, one a line, and is cancelled as from any other process. It ends with this
process, however that ends.

A call is of the very version that was chosen, even if the library has a newer one by the time that it starts.

Not covered: a call over MCP that the settings want a person to approve (`approve = ["tools", "writes"]`). It
fails with that reason and writes nothing.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from pydantic import JsonValue, ValidationError

from orchestrator_cli import events
from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.approvals.permissions import covered
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.chat.terminal_input import terminal_input
from orchestrator_cli.environment import for_another_orch, read_secret
from orchestrator_cli.errors import Cancelled, Interrupted, OrchError, RunFailed
from orchestrator_cli.events import Event, Outcome, RunStarted
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask import run_subtask
from orchestrator_cli.execution.subtask_runs import reason_of
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.models.sources import GivenModel, ModelFree
from orchestrator_cli.orchestrator import notice_opened
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.runtime import open_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.subprocesses.command import open_process
from orchestrator_cli.values import Usage
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.envelope import Envelope
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.views.narration import narrate
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.permissions import package_name
from toolsmith.sandbox.proxy import parse_grants
from toolsmith.spec import ToolSpec

CALL_S = 300.0
WHY = "A program that is connected over MCP asked for this call."


@dataclass(frozen=True)
class Served:
    """The tools that are served, and why the others are not."""

    tools: tuple[BuiltTool, ...]
    refused: tuple[str, ...]


def served(library: Library, settings: Settings) -> Served:
    """Every tool that may be called without an approval, by name."""
    tools, refused = [], []
    for found in library.list():
        try:
            tool = library.get(found.name)
        except LibraryError as exc:
            refused.append(str(exc).splitlines()[0])
            continue
        if tool is None:
            continue
        if reason := not_allowed(tool.spec, settings):
            refused.append(f"The tool '{tool.name}' is not served: {reason}.")
        else:
            tools.append(tool)
    return Served(tuple(tools), tuple(refused))


def not_allowed(spec: ToolSpec, settings: Settings) -> str:
    """What a tool asks for that the settings do not allow, in words; empty if they allow it all."""
    grants = zip(spec.network, parse_grants(spec.network), strict=True)
    known = {package_name(name) for name in settings.packages}
    open_ones = {
        "network": ("reaches", [domain for domain, grant in grants if not covered(grant, settings.network)]),
        "secrets": ("is given", [name for name in spec.secrets if name not in settings.secrets]),
        "packages": ("needs", [each for each in spec.packages if package_name(each) not in known]),
    }
    for setting, (does, names) in open_ones.items():
        if names and not settings.yes:
            return f"it {does} {', '.join(names)}, which is not among `{setting}` in orch.toml"
    return unset_secrets(spec)


def unset_secrets(spec: ToolSpec) -> str:
    """Which secrets of a tool are not there, in words; empty if it has all."""
    unset = [name for name in spec.secrets if read_secret(name) is None]
    return f"{', '.join(unset)} is not set in the environment" if unset else ""


@dataclass
class ServedCall:
    """One call of a tool, which another thread may end."""

    tool: BuiltTool
    arguments: Mapping[str, JsonValue]
    settings: Settings
    why: str = WHY
    """What its log says of why it was made."""
    screen: Console | None = None
    """Shows the run to a person at the terminal, who is asked what it asks; None if no one is there."""
    run: str = ""
    """The id of its run, once it has one."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancellation: Cancellation | None = None
    _ended: bool = False

    def end(self) -> None:
        """Cancel the call, now or as soon as it starts."""
        with self._lock:
            self._ended = True
            if self._cancellation is not None:
                self._cancellation.cancel(Cancelled("The call was cancelled."))

    def make(self) -> JsonValue:
        """Call the tool and return its value. Raises `OrchError`, also for an error of the tool itself."""
        settings = self.settings
        log = FileLog(settings.workspace / "fileLog.md", settings.home, settings.origin.mark)
        source = GivenModel(ModelFree())
        views: list[EventView] = [log] if self.screen is None else [log, self.screen]
        with ExitStack() as closing:
            run = closing.enter_context(
                open_run(
                    self.settings,
                    views,
                    source=source,
                    wants_engine=False,
                    attended=self.screen is not None,
                )
            )
            if self.screen is not None:
                closing.enter_context(terminal_input(run.broker, self.screen, takes_remarks=False))
            with self._lock:
                self.run, self._cancellation = run.id, run.cancellation
            if self._ended:
                self.end()
            return self._call(run)

    def _call(self, run: Run) -> JsonValue:
        spec, started = self.tool.spec, time.monotonic()
        prompt = call_text(spec, self.arguments)
        plan = plan_of(spec, self.arguments, self.why)
        (subtask,) = plan.subtasks
        run.emit(run.started(prompt))
        run.emit(events.PlanProposed(plan=plan))
        error: OrchError | None = None
        result: Result | None = None
        try:
            notice_opened(run)
            if faults := spec.argument_faults(self.arguments):
                raise RunFailed("; ".join(faults), spec.signature)
            run.registry.use(self.tool)
            run.emit(
                events.SubtaskStarted(subtask=subtask.id, title=subtask.title, attempt=1, plan_version=1)
            )
            result = run_subtask(run, subtask, attempt=1, plan_version=1, inputs=self.arguments, failure="")
            return result.value
        except BaseException as exc:
            error = _as_ours(exc)
            run.emit(events.SubtaskFailed(subtask=subtask.id, attempt=1, reason=error.message, final=True))
            raise error from exc
        finally:
            run.emit(_ending(error, result, time.monotonic() - started))


def plan_of(spec: ToolSpec, arguments: Mapping[str, JsonValue], why: str = WHY) -> Plan:
    """The call as a plan of one subtask."""
    subtask: dict[str, Any] = {
        "id": spec.name[:40],
        "title": f"Call {spec.name}",
        "kind": "tool",
        "tools": (spec.name,),
        "inputs": dict(arguments),
        "timeout_s": CALL_S,
        "on_failure": "abort",
    }
    return Plan(goal=f"what {spec.name} gives is there", why=why, subtasks=(Subtask(**subtask),))


def call_text(spec: ToolSpec, arguments: Mapping[str, JsonValue]) -> str:
    """The call as the prompt of its run: `name(argument=value, …)`."""
    given = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return f"{spec.name}({', '.join(given)})"


def _as_ours(exc: BaseException) -> OrchError:
    if isinstance(exc, OrchError):
        return exc
    if isinstance(exc, ToolUnavailable):
        return RunFailed(str(exc))
    if isinstance(exc, KeyboardInterrupt):
        return Interrupted("Interrupted.")
    return RunFailed(reason_of(exc).splitlines()[0])


def _ending(error: OrchError | None, result: Result | None, seconds: float) -> events.RunFinished:
    outcome: Outcome = "completed"
    if error is not None:
        outcome = "cancelled" if isinstance(error, Cancelled) else "failed"
    return events.RunFinished(
        outcome=outcome,
        answer=as_text(result.value) if result else "",
        error=str(error) if error else None,
        exit_code=error.exit_code if error else 0,
        seconds=seconds,
        usage=Usage(),
        files=result.files if result else (),
    )


Progress = Callable[[str], Awaitable[None]]

ENDING_S = 20.0
"""How long a run may take to end after it is cancelled."""
ERR_CHARS = 2_000


@dataclass
class AskCall:
    """A run in progress, and what it comes to."""

    settings: Settings
    flags: tuple[str, ...] = ()
    """Flags for `orch ask`, from the command line of this server."""
    envelope: Envelope = field(default_factory=Envelope)
    _state: RunState = field(default_factory=RunState)
    _run: str = ""
    _errors: str = ""

    async def ask(
        self,
        prompt: str,
        progress: Progress,
        *,
        schema: Mapping[str, JsonValue] | None = None,
        connected: Callable[[], bool],
    ) -> dict[str, Any]:
        """Run a prompt, with a line to `progress` for each step. Returns the result of `answer_of`.

        `schema`: the JSON Schema that the answer has to satisfy.

        If a client that is still `connected` cancels the request, the run is cancelled for good. If the
        client has disconnected, the run can be resumed.
        """
        command = [sys.executable, "-P", "-m", "orchestrator_cli", "ask", "--stream-json", *self.flags]
        folder = ["-C", str(self.settings.workspace.resolve()), f"--mark={self.settings.origin.mark}", "-"]
        async with (
            _in_a_file(schema) as given,
            open_process(
                [*command, *given, *folder], env=for_another_orch(), stderr=subprocess.PIPE
            ) as process,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._read_errors, process)
            try:
                assert process.stdin is not None
                await process.stdin.send(prompt.encode())
                await process.stdin.aclose()
                async for line in lines(process.stdout):
                    for row in self._read_event(line):
                        await progress(row)
                code = await process.wait()
            except BaseException:
                if connected():
                    await self._cancel(process)
                raise
        return answer_of(self.envelope.result(), code, self._errors)

    def _read_event(self, line: bytes) -> list[str]:
        """The progress that an event is worth; none for a line that is not an event."""
        try:
            event = Event.model_validate_json(line, extra="ignore")
        except ValidationError:
            return []
        rows = [str(row).strip() for row in narrate(event, self._state)]
        if isinstance(event.data, RunStarted):
            self._run = event.run
        self._state = apply(self._state, event)
        self.envelope(event, self._state)
        return rows

    async def _cancel(self, process: Process) -> None:
        """Cancel the run for good, and wait until it has ended."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(ENDING_S):
            folder = self.settings.home / "runs" / self._run
            if self._run and folder.is_dir():
                send_cancel(folder)
                async for line in lines(process.stdout):
                    self._read_event(line)
                await process.wait()

    async def _read_errors(self, process: Process) -> None:
        async for line in lines(process.stderr):
            self._errors = f"{self._errors}\n{line.decode(errors='replace')}".strip()[-ERR_CHARS:]


@asynccontextmanager
async def _in_a_file(schema: Mapping[str, JsonValue] | None) -> AsyncIterator[list[str]]:
    """The arguments of `orch ask` that give it a schema."""
    if schema is None:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="orch-schema-") as folder:
        path = Path(folder, "schema.json")
        path.write_text(json.dumps(schema), encoding="utf-8")
        yield ["--schema", str(path)]


async def lines(stream: ByteReceiveStream | None) -> AsyncIterator[bytes]:
    """The lines of a stream, to its end."""
    left = b""
    with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        while stream is not None:
            *whole, left = (left + await stream.receive()).split(b"\n")
            for line in whole:
                yield line
    if left:
        yield left


def answer_of(envelope: Mapping[str, Any], code: int, errors: str) -> dict[str, Any]:
    """What the client gets, as JSON values: the answer, or why there is none and how to continue."""
    run, error = envelope["run"], envelope["error"]
    if run is None:
        error = {
            "message": errors.removeprefix("error: ") or f"It ended with exit code {code}.",
            "remedy": "",
        }
    asked = envelope["approvals"] if envelope["outcome"] == "paused" else []
    return {
        "run": run,
        "outcome": envelope["outcome"],
        "answer": envelope["answer"],
        "value": envelope["value"],
        "exit_code": code,
        "files": [change["path"] for change in envelope["files"]],
        "cost": envelope["usage"]["cost"],
        "error": error,
        "approvals": [{key: row[key] for key in ("id", "what", "question", "details")} for row in asked],
        "go_on": f"orch approve {run} --yes" if asked else None,
    }


def answer_text(answer: Mapping[str, Any]) -> str:
    """The result of `answer_of` as a text."""
    if answer["approvals"]:
        rows = [f"- {row['id']} ({row['what']}): {row['question']}" for row in answer["approvals"]]
        return "\n".join(
            [
                f"Run {answer['run']} is paused until a person decides.",
                *rows,
                f"Continue with: {answer['go_on']}",
                f"or one by one: orch approve {answer['run']} ID --yes | --no --because TEXT | --answer TEXT",
            ]
        )
    parts = [answer["answer"]] if answer["answer"] else []
    if answer["error"]:
        parts.append(
            f"{answer['outcome']}: {answer['error']['message']}\n{answer['error']['remedy']}".strip()
        )
    parts.append(f"(run {answer['run']})" if answer["run"] else "")
    return "\n\n".join(part for part in parts if part)


def flags_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags of `orch ask` for the values of options. None means that an option was not given."""
    flags: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif isinstance(value, list | tuple):
            flags += [part for one in value for part in (flag, str(one))]
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return tuple(flags)
