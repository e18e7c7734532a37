"""One run for a program that is connected over MCP: `orch ask` in a process of its own.

In a process of its own, a run cannot disturb the protocol or other runs, and several can work at once. It
sends events, one a line, and is cancelled as from any other process. It ends with this process, however
that ends.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from pydantic import ValidationError

from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.events import Event, RunStarted
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.subprocesses.command import open_process
from orchestrator_cli.views.jsonl import Envelope
from orchestrator_cli.views.narration import narrate

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

    async def ask(self, prompt: str, progress: Progress, *, connected: Callable[[], bool]) -> dict[str, Any]:
        """Run a prompt, with a line to `progress` for each step. Returns the result of `answer_of`.

        If a client that is still `connected` cancels the request, the run is cancelled for good. If the
        client has disconnected, the run can be resumed.
        """
        command = [sys.executable, "-P", "-m", "orchestrator_cli", "ask", "--stream-json", *self.flags]
        folder = ["-C", str(self.settings.workspace.resolve()), "-"]
        async with (
            open_process([*command, *folder], stderr=subprocess.PIPE) as process,
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
