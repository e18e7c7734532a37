"""One run for a program that is connected over MCP: `orch ask` in a process of its own.

A process of its own, so that runs cannot disturb each other or the protocol, and may go on at once as they
do from several terminals. What crosses is events, one a line; cancelling goes the way that every other
process cancels by. The process ends with this one, however that ends.
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
from orchestrator_cli.subprocesses.guarded import guarded
from orchestrator_cli.views.jsonl import Envelope
from orchestrator_cli.views.narration import narrate

Tell = Callable[[str], Awaitable[None]]

ENDING_S = 20.0
"""So long a run may take to end by itself once it was told to."""
ERR_CHARS = 2_000


@dataclass
class Asking:
    """A run under way, and what it came to."""

    settings: Settings
    flags: tuple[str, ...] = ()
    """Of `orch ask`, as they were said to this server."""
    envelope: Envelope = field(default_factory=Envelope)
    _state: RunState = field(default_factory=RunState)
    _run: str = ""
    _said: str = ""

    async def ask(self, prompt: str, tell: Tell, *, connected: Callable[[], bool]) -> dict[str, Any]:
        """Run a prompt; `tell` is given a line for all that is worth saying.

        Returns what `answer_of` makes of the run. A request that is cancelled by those who are still
        `connected` cancels the run for good; where they have gone, it can be resumed.
        """
        command = [sys.executable, "-P", "-m", "orchestrator_cli", "ask", "--stream-json", *self.flags]
        folder = ["-C", str(self.settings.workspace.resolve()), "-"]
        async with (
            guarded([*command, *folder], stderr=subprocess.PIPE) as process,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._hear_errors, process)
            try:
                assert process.stdin is not None
                await process.stdin.send(prompt.encode())
                await process.stdin.aclose()
                async for line in lines(process.stdout):
                    for told in self._note(line):
                        await tell(told)
                code = await process.wait()
            except BaseException:
                if connected():
                    await self._cancel(process)
                raise
        return answer_of(self.envelope.result(), code, self._said)

    def _note(self, line: bytes) -> list[str]:
        """What is to be told of a line."""
        try:
            event = Event.model_validate_json(line, extra="ignore")
        except ValidationError:
            return []
        told = [str(row).strip() for row in narrate(event, self._state)]
        if isinstance(event.data, RunStarted):
            self._run = event.run
        self._state = apply(self._state, event)
        self.envelope(event, self._state)
        return told

    async def _cancel(self, process: Process) -> None:
        """Have the run cancelled for good, and wait for that."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(ENDING_S):
            folder = self.settings.home / "runs" / self._run
            if self._run and folder.is_dir():
                send_cancel(folder)
                async for line in lines(process.stdout):
                    self._note(line)
                await process.wait()

    async def _hear_errors(self, process: Process) -> None:
        async for line in lines(process.stderr):
            self._said = f"{self._said}\n{line.decode(errors='replace')}".strip()[-ERR_CHARS:]


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


def answer_of(envelope: Mapping[str, Any], code: int, said: str) -> dict[str, Any]:
    """What the caller is given, of JSON values: the answer, or why there is none and how to go on."""
    run, error = envelope["run"], envelope["error"]
    if run is None:
        error = {"message": said.removeprefix("error: ") or f"It ended with exit code {code}.", "remedy": ""}
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


def told_of(answer: Mapping[str, Any]) -> str:
    """The same for a reader."""
    if answer["approvals"]:
        rows = [f"- {row['id']} ({row['what']}): {row['question']}" for row in answer["approvals"]]
        return "\n".join(
            [
                f"Run {answer['run']} is paused: a person has to decide.",
                *rows,
                f"Go on with: {answer['go_on']}",
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


def flags_of(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Flags of `orch ask` for what was said on this server's own command line; None means unsaid."""
    flags: list[str] = []
    for name, value in said.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif isinstance(value, list | tuple):
            flags += [part for one in value for part in (flag, str(one))]
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return tuple(flags)
