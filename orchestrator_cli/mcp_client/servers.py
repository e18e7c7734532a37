"""Third-party MCP servers that the settings register: listed, approved, called.

A server starts before the first subtask that names one of its tools, and ends with the run. Its last listing
is kept in the data folder, so that a planner sees its tools without starting it; a first listing runs in the
background. Settings hold no server of a workspace's file that a person has not allowed.

Calls act outside the sandbox, the checkout and `orch undo`. If a server counts as having effects (the
default), its calls have idempotency keys, like those of processes: a resume or a retry does not repeat the
same call of the same subtask.
"""

import contextlib
import hashlib
import json
import re
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator_cli import events
from orchestrator_cli.approvals.broker import ApprovalBroker, Question, wish
from orchestrator_cli.approvals.effects import EffectCall, EffectFailed, EffectOutcome, EffectRefused, Effects
from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.environment import read_secret
from orchestrator_cli.errors import OrchError
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.mcp_client.connection import Connection, Loop, ServerFailed
from orchestrator_cli.mcp_client.login import TokenFile
from orchestrator_cli.mcp_client.over_http import START_S, Login
from orchestrator_cli.mcp_client.tools import ServerTool, ToolListing, read_listing, text_of, value_of
from orchestrator_cli.mcp_settings import McpServer
from orchestrator_cli.plan import Subtask, absence
from orchestrator_cli.planning.planner import ServerCard, ToolCard
from orchestrator_cli.settings import Settings
from orchestrator_cli.workspace.commands import files_named

_WORKSPACE_IN_SHELL = re.compile(r"\$\{?ORCH_WORKSPACE\b\}?")
FIRST_LISTING_S = 10.0
"""How long planning waits for a first listing; LiteLLM's import takes half of that anyway."""
MOST_NAMED = 5
MOST_GONE = 200
GONE = "the MCP server {} does not list it any more"
NO_ANSWER = "the MCP server {} does not answer"
LATE = "The MCP server {} has not said yet what tools it has; a later run can plan with them."


class Servers:
    """The servers of one run. Every method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        root: Path,
        broker: ApprovalBroker,
        masks: Redactor,
        emit: Emit,
        cancellation: Cancellation,
    ) -> None:
        """`root` is the workspace. No program starts in it; each is given its path."""
        self._settings = settings
        self._registered = settings.mcp
        self._root = root
        self._broker = broker
        self._masks = masks
        self._emit = emit
        self._cancellation = cancellation
        self._lock = threading.Lock()
        self._loop = Loop()
        self._listed: dict[str, ToolListing] = {}
        """What each server lists, as far as that is known."""
        self._listing: dict[str, Future[None]] = {}
        self._connections = {
            name: Connection(
                name,
                server,
                self._loop,
                workspace=root,
                scratch=settings.home / "mcp",
                env=lambda s=server: self._env(s),  # type: ignore[misc]
                login=Login(TokenFile(settings.home, server.url, self._mask_token) if server.url else None),
            )
            for name, server in self._registered.items()
        }
        self._times: Counter[tuple[str, int, str, str]] = Counter()
        for name in self._registered:
            kept = self._kept(name)
            if kept is not None:
                self._read(name, kept)
            else:
                self._list_beside(name)

    # --- what there is

    def cards(self) -> tuple[ToolCard, ...]:
        """What a planner is shown. Waits a little for servers that were never listed before."""
        for name, future in self._listing.items():
            try:
                self._cancellation.waiting_for(lambda future=future: future.result(FIRST_LISTING_S))  # type: ignore[misc]
            except TimeoutError:
                self._emit(events.Noticed(message=LATE.format(name)))
        return tuple(
            ToolCard(
                name=tool.name,
                signature=tool.signature,
                purpose=tool.purpose,
                server=tool.server,
                inputs=tool.arguments,
            )
            for listing in self._all()
            for tool in listing.tools
        )

    def silent(self) -> tuple[ServerCard, ...]:
        """The servers whose tools are not known, because they did not answer."""
        return tuple(
            ServerCard(name=name, when=server.when)
            for name, server in self._registered.items()
            if name not in self._listed
        )

    def absent(self) -> dict[str, str]:
        """Why tools of servers are not there, by name; one that ends in `*` means all that begin so."""
        found = {name: why for listing in self._all() for name, why in listing.left_out.items()}
        return found | {f"{one.name}_*": NO_ANSWER.format(one.name) for one in self.silent()}

    def refusal(self, name: str) -> str:
        """Why a tool is never built: it is one of a server's, there or not. Empty for any other.

        A first listing that still goes on is waited for.
        """
        for server, future in self._listing.items():
            if name.startswith(f"{server}_") and server not in self._listed:
                with contextlib.suppress(TimeoutError):
                    self._cancellation.waiting_for(lambda future=future: future.result(START_S))  # type: ignore[misc]
        if self.has(name):
            return f"the tool {name} is that of an MCP server, and only a subtask that names it gets it"
        why = absence(name, self.absent())
        return f"the tool {name} is not there, and nothing is built in its place: {why}" if why else ""

    def has(self, name: str) -> bool:
        return self._found(name) is not None

    def _found(self, name: str) -> ServerTool | None:
        return next((tool for one in self._all() for tool in one.tools if tool.name == name), None)

    def _all(self) -> tuple[ToolListing, ...]:
        with self._lock:
            return tuple(self._listed.values())

    # --- what a person is asked

    def allow(self, subtask: Subtask, effects: Effects, written: Callable[[], frozenset[str]]) -> None:
        """Ask whether the servers of a subtask's tools may be used.

        Raises `EffectRefused` if one may not, and `ApprovalNeeded` at once if the question is open, so that a
        waiting subtask takes no slot from others.
        """
        found = (self._found(name) for name in subtask.tools)
        for name in sorted({tool.server for tool in found if tool is not None}):
            server = self._registered[name]
            self._check_program(server, written)
            question, what = _question(name, server)
            if server.url is not None:
                # The registration is the permission; this records it.
                self._broker.resolve(
                    Question(
                        what="network",
                        subject=f"mcp {name}",
                        question=question,
                        details=what,
                    )
                )
            if server.effects:
                effects.allow(f"mcp {name}", question, what)

    def _check_program(self, server: McpServer, written: Callable[[], frozenset[str]]) -> None:
        """Raise `EffectRefused` if this run wrote a file that the command names."""
        try:
            command = server.expanded(read_secret, str(self._root)).command
        except KeyError:
            return  # it is not started; the call says which variable is not set
        # A shell puts in the variable that it is given. The program starts in an empty folder, so only whole
        # paths lead to the workspace.
        words = [_WORKSPACE_IN_SHELL.sub(lambda _: str(self._root), word) for word in command]
        inside = files_named(words, Path("/"), self._root)
        if inside and (made := sorted(written().intersection(inside))):
            raise EffectRefused(
                f"{made[0]} was written in this run, and an MCP server does not run what a model wrote"
            )

    # --- calls

    def functions(
        self, subtask: Subtask, attempt: int, effects: Effects, cancellation: Cancellation
    ) -> dict[str, "ServerFunction"]:
        """The server tools that a subtask names, for one attempt."""
        found = (self._found(name) for name in subtask.tools)
        return {
            tool.name: ServerFunction(self, tool, subtask.id, attempt, effects, cancellation)
            for tool in found
            if tool is not None
        }

    def call(
        self,
        tool: ServerTool,
        arguments: Mapping[str, Any],
        *,
        subtask: str,
        attempt: int,
        effects: Effects,
        cancellation: Cancellation,
    ) -> Any:
        """The value of a call.

        Raises `ServerFailed`, `EffectFailed`, `EffectRefused`, `ApprovalNeeded`, and what cancels it.
        """

        def do(key: str = "") -> EffectOutcome:
            result = self._connections[tool.server].call(
                tool.tool, arguments, key=key, cancellation=cancellation
            )
            self._list_once_more(tool.server)
            if result.get("isError"):
                raise EffectFailed(text_of(result)[:2_000] or "its server says that it failed")
            return EffectOutcome(value_of(result))

        if not self._registered[tool.server].effects:
            return do().value
        # An agent may make the same call twice; a later attempt counts the same way.
        same = (subtask, attempt, tool.name, json.dumps(dict(arguments), sort_keys=True, default=str))
        with self._lock:
            self._times[same] += 1
            time = self._times[same]
        what = f"mcp {tool.name}" + (f", call {time}" if time > 1 else "")
        return effects.once(EffectCall(subtask, attempt, what, dict(arguments)), do).value

    def close(self) -> None:
        """End all servers."""
        for connection in self._connections.values():
            connection.close()
        self._loop.close()

    # --- listing

    def _list_beside(self, name: str) -> None:
        future: Future[None] = Future()
        self._listing[name] = future

        def work() -> None:
            try:
                rows = self._connections[name].tools(self._cancellation)
                self._read(name, {"tools": rows})
                self._keep(name, rows)
            except ServerFailed as exc:
                self._emit(events.Noticed(message=f"The tools of an MCP server could not be listed: {exc}."))
            except (OrchError, OSError) as exc:
                # The run ends, or the data folder cannot be written, which is reported elsewhere.
                del exc
            finally:
                future.set_result(None)

        run_beside(work)

    def _read(self, name: str, kept: Mapping[str, Any]) -> None:
        """Have the tools of a listing, and say which of them cannot be used."""
        listing = read_listing(name, kept["tools"], self._registered[name].tools, self._registered)
        gone = {tool: GONE.format(name) for tool in kept.get("gone", ()) if isinstance(tool, str)}
        known = {tool.name for tool in listing.tools}
        left_out = {tool: why for tool, why in gone.items() if tool not in known} | dict(listing.left_out)
        with self._lock:
            self._listed[name] = replace(listing, left_out=left_out)
        if listing.faults:
            shown = "; ".join(listing.faults[:MOST_NAMED])
            more = len(listing.faults) - MOST_NAMED
            shown += f"; and {more:,} more" if more > 0 else ""
            self._emit(events.Noticed(message=f"Tools of the MCP server {name} cannot be used: {shown}."))

    def _list_once_more(self, name: str) -> None:
        """Refresh the kept listing for later runs, since the server runs now."""
        with self._lock:
            if name in self._listing:
                return
            done: Future[None] = Future()
            self._listing[name] = done
        done.set_result(None)  # nothing waits for this one

        def work() -> None:
            # The run may end meanwhile, and its loop with it.
            with contextlib.suppress(ServerFailed, OrchError, OSError, RuntimeError):
                self._keep(name, self._connections[name].tools(self._cancellation))

        run_beside(work)

    def _place(self, name: str) -> Path:
        server = self._registered[name]
        keys = [server.variables, server.headers, server.type] if server.expand or server.headers else []
        identity = json.dumps([server.command, server.url, server.env, str(self._root), *keys])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return self._settings.home / "mcp" / f"{name}-{digest}.json"

    def _kept(self, name: str) -> dict[str, Any] | None:
        """The last listing, and the tools that earlier ones had."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads(self._place(name).read_text(encoding="utf-8"))
            kept = {"tools": kept} if isinstance(kept, list) else kept  # as earlier versions kept it
            return kept if isinstance(kept, dict) and isinstance(kept.get("tools"), list) else None
        return None

    def _keep(self, name: str, rows: list[Any]) -> None:
        place, before = self._place(name), self._kept(name)
        known = read_listing(name, before["tools"], None, self._registered) if before else ToolListing()
        gone = [*(tool.name for tool in known.tools), *(before or {}).get("gone", ())]
        now = {tool.name for tool in read_listing(name, rows, None, self._registered).tools}
        gone = [tool for tool in dict.fromkeys(gone) if tool not in now][:MOST_GONE]
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(place, json.dumps({"tools": rows, "gone": gone}), sync=False)

    def _env(self, server: McpServer) -> dict[str, str]:
        """The variables of the user's that a server gets, masked from now on. Raises `ServerFailed`."""
        found = {}
        for name in (*server.env, *server.references):
            value = read_secret(name)
            if value is not None:
                self._mask(name, value, is_secret=name in server.env)
                found[name] = value
            elif name in server.env:
                raise ServerFailed(f"{name} is not set: set it in the environment")
        for name, value in server.literal_keys.items():
            self._mask(name, value, is_secret=False)
        return found

    def _mask_token(self, name: str, value: str) -> None:
        self._mask(name, value, is_secret=False)

    def _mask(self, name: str, value: str, *, is_secret: bool) -> None:
        """Mask a value. One that is too short for that is not a secret, unless it is named as one."""
        try:
            self._masks.add(name, value)
        except ValueError as exc:
            if is_secret:
                raise ServerFailed(str(exc)) from exc


def _question(name: str, server: McpServer) -> tuple[str, str]:
    """The question about a server, and its details."""
    names = dict.fromkeys((*server.env, *server.references))
    given = f"\nIt is given {', '.join(names)} from your environment." if names else ""
    where = f" at {urlsplit(server.url).hostname}" if server.url is not None else ""
    question = wish(f"The MCP server `{name}`{where}", "to be used, with your rights", server.when)
    return question, (server.shown_url or shlex.join(server.command)) + given


class ServerFunction:
    """A server's tool as a callable, like a hand-written tool."""

    def __init__(
        self,
        servers: Servers,
        tool: ServerTool,
        subtask: str,
        attempt: int,
        effects: Effects,
        cancellation: Cancellation,
    ) -> None:
        self._servers = servers
        self._tool = tool
        self._where: dict[str, Any] = {
            "subtask": subtask,
            "attempt": attempt,
            "effects": effects,
            "cancellation": cancellation,
        }
        self.form = tool.form

    def __call__(self, **arguments: Any) -> Any:
        return self._servers.call(self._tool, self._tool.own_arguments(arguments), **self._where)
