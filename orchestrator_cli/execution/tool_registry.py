"""The tools of a run: hand-written ones, and those that the toolsmith has built or builds now."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.approvals.effects import Effects
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, RecoverableError, UsageError, storage_faults
from orchestrator_cli.execution.built_tools import BuiltTools
from orchestrator_cli.execution.tool_cards import (
    Tool,
    built_card,
    built_event,
    card,
    reused_event,
    within_bounds,
)
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.mcp_client.servers import Servers
from orchestrator_cli.models.endings import reply_fault
from orchestrator_cli.models.model import Completion, Model, ModelRequest
from orchestrator_cli.models.search import WebSearch
from orchestrator_cli.plan import READ_IMAGE, NewTool, Subtask
from orchestrator_cli.planning.planner import ServerCard, ToolCard
from orchestrator_cli.recall.knowledge import KnowledgeReader, knowledge_tools
from orchestrator_cli.recall.skills import SkillReader, skill_tools
from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.tools.web import web_tools
from orchestrator_cli.tools.web_search import FoundSites, search_tools
from toolsmith.build import BuildStep, CodeFaulty, CodeWritten, NotExtended, Searched, TrialRan, build_tool
from toolsmith.built import BuiltTool
from toolsmith.errors import (
    PackagesUnavailable,
    PermissionRefused,
    ReplyFaulty,
    ToolDisabled,
    ToolQuarantined,
    ToolsmithError,
)
from toolsmith.errors import ToolNotBuilt as Refused
from toolsmith.library import Library
from toolsmith.names import identifier, short_name
from toolsmith.permissions import PackageLock, Permissions
from toolsmith.sandbox import Backend, SandboxUnavailable
from toolsmith.sandbox.proxy import parse_grants
from toolsmith.search import Recall, Search
from toolsmith.spec import Need, ToolSpec


def whole_text(reply: Completion) -> str:
    """The text of a reply, for the toolsmith. Raises `ReplyFaulty` if it is cut, refused or empty."""
    if fault := reply_fault(reply):
        raise ReplyFaulty([fault], reply.text)
    return reply.text


class ToolUnavailable(RecoverableError):
    """A tool could not be had; the message says why, for the planner."""


class ToolRegistry:
    """Finds tools by name, and has the missing ones built; what was built stays in the library."""

    def __init__(
        self,
        library: Library,
        *,
        network: tuple[str, ...],
        allow_protected: tuple[str, ...] = (),
        model: Model,
        backend: Backend,
        gate: PermissionGate,
        emit: Emit,
        masks: Callable[[str], str],
        recall: Recall = lambda _: (),
        run: str,
        servers: Servers | None = None,
        knowledge: KnowledgeReader | None = None,
        skills: SkillReader | None = None,
        search: WebSearch | None = None,
    ) -> None:
        """`servers`: the MCP servers of others, whose tools count as hand-written ones.

        `knowledge`: what the user's documents say, which is offered if there are any. `skills`: those of the
        run; None if there are none. `search`: what searches the web.
        """
        self._skills = skill_tools(skills) if skills is not None else {}
        self.servers = servers
        self._knowledge = knowledge
        self._search = search
        self._library = library
        self._network = network
        self._allowed = allow_protected
        self._model = model
        self._backend = backend
        self._gate = gate
        self._emit = emit
        self._recall = recall
        self._run = run
        self.built_tools = BuiltTools(library, backend=backend, gate=gate, emit=emit, masks=masks, run=run)
        self._lock = threading.Lock()
        self._built: dict[str, BuiltTool] = {}
        self._written: dict[str, str] = {}
        """The code of the round under way, per tool."""
        self.made: list[str] = []
        """Names of the tools that this run built, in order."""
        self.reused: list[str] = []
        self._had: Mapping[str, events.ToolBuilt | events.ToolReused] = {}
        """The versions that an earlier process of this run used."""
        self._served: dict[str, str] = {}
        """The tool that serves, by the name that was asked for."""
        self._reasons: dict[str, str] = {}
        """What the search for each tool came to."""
        self._renewed: set[str] = set()
        """Tools that were in quarantine, and for which a new version was asked for in this process."""

    def hosted(
        self, subtask: Subtask, attempt: int, effects: Effects, cancellation: Cancellation
    ) -> dict[str, Tool]:
        """The tools that run in this process for an attempt: all but those for files and the built ones."""
        grants, found = parse_grants(subtask.network), FoundSites()

        def granted(host: str, port: int) -> bool:
            if any(grant.covers(host, port) for grant in grants):
                return True
            title = found.title(host)
            if title is None or port not in (80, 443):
                return False
            self._gate.permit_site(subtask, host, title, cancellation)
            return True

        tools: dict[str, Tool] = web_tools(
            self._network,
            self._gate.public_address,
            granted=granted,
            named=subtask.network,
            cancellation=cancellation,
        )
        if self._search is not None:
            name = self._search.name
            tools |= search_tools(
                self._search, found, lambda: self._gate.permit_search(subtask, name, cancellation)
            )
        if self._knowledge is not None:
            tools |= knowledge_tools(self._knowledge)
        tools |= self._skills
        if self.servers is not None:
            tools |= self.servers.functions(subtask, attempt, effects, cancellation)
        return tools

    def cards(self, recalled: Iterable[str]) -> tuple[ToolCard, ...]:
        """What a planner is shown: every hand-written tool, and those of the library that memory recalled."""
        # A planner has the same rule everywhere: it names the domains it needs, and the user allows them.
        written = self._written_tools()
        hand = [card(name, tool) for name, tool in written.items()]
        kept = (self.built(name) or self.built_tools.glance(name) for name in recalled)
        theirs = self.servers.cards() if self.servers is not None else ()
        return within_bounds([*hand, *theirs, *(built_card(tool) for tool in kept if tool is not None)])

    def silent(self) -> tuple[ServerCard, ...]:
        """The MCP servers that did not answer when they were asked for their tools."""
        return self.servers.silent() if self.servers is not None else ()

    def absent(self) -> dict[str, str]:
        """Why tools of MCP servers are not there, as `Catalogue.absent` has it."""
        return self.servers.absent() if self.servers is not None else {}

    def has(self, name: str) -> bool:
        """Whether a subtask that names this tool could start now."""
        known = knowledge_tools(self._knowledge) if self._knowledge is not None else {}
        written = self._written_tools() | known
        return name in written or name == READ_IMAGE or self._is_theirs(name) or self.built(name) is not None

    def _written_tools(self) -> dict[str, Tool]:
        """The hand-written tools that are offered, to be described and not called."""
        tools: dict[str, Tool] = file_tools(Path(), self._allowed) | web_tools(()) | self._skills
        if self._search is not None:
            tools |= search_tools(self._search, FoundSites(), lambda: None)
        if self._knowledge is not None and self._knowledge.has_something:
            tools |= knowledge_tools(self._knowledge)
        return tools

    def _is_theirs(self, name: str) -> bool:
        return self.servers is not None and self.servers.has(name)

    def built(self, name: str) -> BuiltTool | None:
        """The tool as this run uses it; None where it was not got yet, or failed too often since."""
        tool = self._built.get(name)
        return tool if tool is not None and not self.built_tools.stopped(name, tool.version) else None

    def serving(self, name: str) -> BuiltTool | None:
        """The tool of another name that serves where this one was asked for, as far as that is known."""
        other = self._served.get(name)
        return self.built(other) if other is not None else None

    def used(self) -> tuple[BuiltTool, ...]:
        """The built tools that this run made or took from the library."""
        found = (
            self._built.get(name) or self._had_version(name) or self.built_tools.glance(name)
            for name in (*self.made, *self.reused)
        )
        return tuple(tool for tool in found if tool is not None)

    def restore(
        self,
        made: Iterable[str],
        reused: Iterable[str],
        had: Mapping[str, events.ToolBuilt | events.ToolReused],
    ) -> None:
        """Have the versions that an earlier process of this run used, and no others.

        One that is gone or was changed, or that needs a permission, is looked at when it is needed.
        """
        self.made, self.reused, self._had = list(made), list(reused), had
        for name in had:
            tool = self._had_version(name)
            if tool is not None and not tool.spec.privileged and self._gate.may_use(tool):
                self._built[name] = tool

    def _had_version(self, name: str) -> BuiltTool | None:
        had = self._had.get(name)
        return self.built_tools.kept(name, had.version, had.fingerprint) if had is not None else None

    def use(self, tool: BuiltTool, cancellation: Cancellation | None = None) -> None:
        """Have this very version, which someone has chosen, from now on.

        Raises `ToolUnavailable` if the library has it no more, or if it is refused.
        """
        if self.built_tools.kept(tool.name, tool.version, tool.fingerprint) is None:
            raise self._refusal(tool.name, f"its version {tool.version} was changed or taken out of use")
        self._check_permitted(tool, cancellation)
        self._keep(tool, made=False, asked_for=tool.name)

    def ensure(
        self,
        tool: NewTool,
        *,
        asked_by: str,
        context: str = "",
        calls: Sequence[Mapping[str, Any]] = (),
        cancellation: Cancellation | None = None,
    ) -> BuiltTool:
        """The tool from the library, maybe one of another name that serves (see `serving`), or built now.

        Built anew, once in a run, where it is in quarantine. `calls` are planned with these arguments.
        Raises `ToolUnavailable` where it is refused.
        """
        if not self._is_theirs(tool.name) and (
            known := self._known(tool.name, cancellation) or self.serving(tool.name)
        ):
            return known
        if self.servers is not None and (refusal := self.servers.refusal(tool.name)):
            raise ToolUnavailable(refusal)
        self._emit(events.ToolNeeded(tool=tool.name, purpose=tool.purpose, asked_by=asked_by))
        need = Need(
            name=tool.name,
            purpose=tool.purpose,
            context=context,
            calls=tuple(map(dict, calls)),
        )
        try:
            # Its trials run in temporary folders.
            with storage_faults(self._library.root, Path(tempfile.gettempdir())):
                built = build_tool(
                    need,
                    complete=lambda prompt, schema=None: self._complete(
                        tool.name, prompt, schema, cancellation
                    ),
                    library=self._library,
                    backend=self._backend,
                    emit=self._progress,
                    run=self._run,
                    permit=lambda spec: self._permit(spec, cancellation),  # no version of it exists yet
                    dialer=self._gate.dialer,
                    search=Search(self._recall),
                )
        except Refused as exc:
            self._emit(events.ToolRefused(tool=tool.name, reasons=exc.reasons))
            raise ToolUnavailable(
                f"the tool {tool.name} could not be built: {'; '.join(exc.reasons)}"
            ) from exc
        except ToolDisabled as exc:
            raise self._refusal(tool.name, str(exc).partition("\n")[0]) from exc
        except SandboxUnavailable as exc:
            raise ConfigError("No sandbox works here, so no tool can be tried.", str(exc)) from exc
        except ToolsmithError as exc:
            raise ToolUnavailable(f"the tool {tool.name} cannot be used: {exc}") from exc
        self._check_permitted(built, cancellation)
        self._keep(built, made=built.origin.is_built_by(self._run), asked_for=tool.name)
        return built

    def permit(self, tool: BuiltTool, cancellation: Cancellation | None) -> Permissions:
        """Wait for the permissions of a tool that exists; a yes is for this version alone.

        What this run built itself was asked about before there was a version of it.
        Raises `PermissionRefused`, `PackagesUnavailable` and `ApprovalNeeded`.
        """
        version = None if tool.origin.is_built_by(self._run) else tool
        return self._permit(tool.spec, cancellation, tool.lock, version)

    def _permit(
        self,
        spec: ToolSpec,
        cancellation: Cancellation | None,
        lock: PackageLock = PackageLock(),  # noqa: B008  (frozen)
        version: BuiltTool | None = None,
    ) -> Permissions:
        """Raises `PermissionRefused` and `PackagesUnavailable`."""
        if spec.network and self._backend.connections == "never":
            raise PermissionRefused(f"the sandbox {self._backend.name} can give no tool a network")
        return self._gate.permit_tool(spec, cancellation, lock, version=version)

    def _check_permitted(self, tool: BuiltTool, cancellation: Cancellation | None) -> None:
        """Raise `ToolUnavailable` where this run may not use what the library has."""
        try:
            if tool.spec.privileged:
                self.permit(tool, cancellation)
            self._gate.permit_use(tool, cancellation)
        except (PermissionRefused, PackagesUnavailable) as exc:
            self._emit(events.ToolRefused(tool=tool.name, reasons=(str(exc),)))
            raise ToolUnavailable(f"the tool {tool.name} cannot be used: {exc}") from exc

    def _known(self, name: str, cancellation: Cancellation | None) -> BuiltTool | None:
        if (tool := self.built(name)) is not None:
            return tool
        try:
            with storage_faults():
                had = self._had_version(self._library.stored_name(name))
                known = had or self.built_tools.take(name, cancellation)
        except ToolDisabled as exc:
            raise self._refusal(name, str(exc).partition("\n")[0]) from exc
        except ToolQuarantined as exc:
            with self._lock:
                again = name in self._renewed
                self._renewed.add(name)
            if again:
                raise self._refusal(name, str(exc).partition("\n")[0]) from exc
            return None
        if known is not None:
            self._check_permitted(known, cancellation)
            # Its maker may have been killed before it could say so.
            self._keep(known, made=known.origin.is_built_by(self._run), asked_for=name)
        return known

    def _refusal(self, name: str, why: str) -> ToolUnavailable:
        """Why a tool that the library has is refused."""
        self._emit(events.ToolRefused(tool=name, reasons=(why,)))
        return ToolUnavailable(f"the tool {name} cannot be used: {why}")

    def _keep(self, tool: BuiltTool, *, made: bool, asked_for: str = "") -> None:
        """Have a tool from now on. `asked_for`: by which name, where that may be another than its own."""
        instead_of = asked_for if asked_for != tool.name else ""
        with self._lock:
            before = self._built.get(tool.name) or self._had.get(tool.name)
            listed = tool.name in (*self.made, *self.reused)
            self._built[tool.name] = tool
            if instead_of:
                self._served[instead_of] = tool.name
            known = before is not None and (before.version, before.fingerprint) == (
                tool.version,
                tool.fingerprint,
            )
            if known and not instead_of:
                return
            if not listed:
                (self.made if made else self.reused).append(tool.name)
        if made and not known:
            self._emit(built_event(tool))
        else:
            reason = self._reasons.get(identifier(instead_of), "it is the same name")
            self._emit(reused_event(tool, instead_of, reason if instead_of else ""))

    def _complete(
        self, name: str, prompt: str, schema: dict[str, Any] | None, cancellation: Cancellation | None
    ) -> str:
        request = ModelRequest(
            role="toolsmith",
            subject=name,
            messages=({"role": "user", "content": prompt},),
            reply_schema=schema,
        )
        reply = self._model.complete(request, cancellation=cancellation)
        return whole_text(reply)

    def _progress(self, step: BuildStep) -> None:
        match step:
            case Searched(name, decision):
                self._reasons[name] = decision.reason
            case NotExtended(name, base, reasons):
                reason = f"{base} could not be extended, so {name} is built: {'; '.join(reasons)}"
                self._emit(events.Noticed(message=reason))
            case CodeWritten(name, _, source):
                self._written[name] = source
            case CodeFaulty(name, round_, faults):
                self._tried(name, round_, False, faults)
            case TrialRan(name, round_, report):
                self._tried(name, round_, report.passed, report.lines)

    def _tried(self, name: str, round_: int, passed: bool, results: tuple[str, ...]) -> None:
        source = self._written.pop(name, "")
        self._emit(events.ToolTried(tool=name, round=round_, passed=passed, results=results, source=source))


def tool_to_build(purpose: str, name: str, home: Path) -> NewTool:
    """What a user asks for; without a name, one of its words that no tool has yet.

    Raises `UsageError` where there is no name to be made.
    """
    if name:
        made = identifier(name)
    else:
        taken, first = Library(home / "tools").known(), short_name(purpose)
        numbered = chain([first], (f"{first}_{n}" for n in count(2)))
        made = next(one for one in numbered if one not in taken) if first else ""
    if not made:
        raise UsageError("No name can be made of that.", "Give one with --name: letters, digits and _.")
    return NewTool(name=made, purpose=purpose)
