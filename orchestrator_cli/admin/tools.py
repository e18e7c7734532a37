"""Administers the library of built tools: what `orch tools` does, apart from printing.

A tool's code runs only in the sandbox. The user or the settings grant the network, secrets and
packages that a trial needs, as in a run.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from memory import MemoryFault
from orchestrator_cli.admin.tool_pages import page_of, retired_row, row_of, trial_of
from orchestrator_cli.approvals.broker import Question
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ApprovalNeeded, ConfigError, RunFailed, UsageError
from orchestrator_cli.events import ApprovalGiven, Asked
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.scopes import user_scope
from orchestrator_cli.recall.tool_index import IndexChanges, reindex_tools
from orchestrator_cli.recall.written_files import check_written
from orchestrator_cli.runtime import choose_sandbox
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.tools import ToolPage, ToolReview, ToolRow, Trial
from orchestrator_cli.workspace.line_diff import unified_lines
from toolsmith.build import edit_prover, prove_again, settle_edit
from toolsmith.built import BuiltTool, TrialReport
from toolsmith.errors import ToolNotBuilt, ToolQuarantined, ToolsmithError
from toolsmith.library import Library, archive
from toolsmith.library.retirement import bring_back, retire, retired, unused
from toolsmith.overlap import overlaps, served_by
from toolsmith.permissions import PackageLock
from toolsmith.sandbox import Backend
from toolsmith.skill_folder import export_skill

Confirm = Callable[[str], bool]
"""Asks the user at the terminal to confirm."""


@dataclass(frozen=True)
class Tested:
    """The trial of a tool, run again."""

    name: str
    version: int
    trial: Trial
    quarantined: bool
    """It is in quarantine; `orch tools enable` may end that now if the trial passed."""
    adopted: bool = False
    """It was edited by hand, and this proved the edit."""


class ToolAdmin:
    """The library of one home. Errors come out as `OrchError` with a remedy."""

    def __init__(
        self, settings: Settings, confirm: Confirm | None = None, *, warn: Callable[[str], None]
    ) -> None:
        """`confirm` is None if no one can be asked; `warn` shows what happened to a damaged memory."""
        self._settings = settings
        self._warn = warn
        self._confirm = confirm
        self.library = Library(settings.home / "tools")
        self._masks = Redactor()

    # --- looking

    def rows(self) -> list[ToolRow]:
        """Every tool, including unreadable ones."""
        with _translated():
            known, out = self.library.known(), retired(self.library)
            rows = [row_of(self.library, name) for name in known]
            return rows + [retired_row(out, name) for name in out.known() if name not in known]

    def names(self) -> list[str]:
        return list(self.library.known())

    def page(self, wanted: str) -> ToolPage:
        """Everything about `NAME` or `NAME@V`."""
        with _translated():
            name, version = self._parsed(wanted)
            return page_of(self.library, name, version)

    def difference(self, name: str, old: int | None, new: int | None) -> list[str]:
        """A unified diff of both files of two versions: by default the previous and the current one."""
        with _translated():
            name, counts = self._parsed(name)
            versions = self.library.versions(name)
            new = counts if new is None else new
            if old is None:
                old = max((number for number in versions if number < new), default=0)
            if not old:
                raise UsageError(f"The tool {name} v{new} has no earlier version.", "Name two versions.")
            lines: list[str] = []
            for file in ("tool.py", "tool.json"):
                before, after = (self._text(name, number, file) for number in (old, new))
                label = f"{name}/v{{}}/{file}"
                found = unified_lines(before, after, label.format(old), label.format(new))
                lines += (line.removesuffix("\n") for line in found)
            return lines

    def in_use(self, wanted: str) -> BuiltTool:
        """The current version of a tool. Raises `UsageError` if it is out of use, with the reason."""
        with _translated():
            name, version = self._parsed(wanted)
            if version != self.library.current_version(name):
                raise UsageError(
                    f"v{version} of {name} is not in use.",
                    f"Go back to it first: orch tools rollback {name} {version}",
                )
            if (row := row_of(self.library, name)).state != "in use":
                raise UsageError(
                    f"The tool {name} v{version} is not in use: {row.state}.", "\n".join(row.why)
                )
            return self.library.version(name, version)

    # --- deciding

    def test(self, wanted: str) -> Tested:
        """Run the trial again. An edit by hand that passes is adopted, as in a run."""
        with _translated():
            name, version = self._parsed(wanted)
            tool = self.library.version(name, version)
            if tool.edited and version == self.library.current_version(name):
                return self._tested_edit(name, version)
            faults, report = self._prove(tool, tool.lock)
            trial = trial_of(report, faults)
            self.library.record_trial(name, version, passed=trial.passed)
            held = bool(self.library.status(name).quarantine(version))
            return Tested(name, version, trial, quarantined=held)

    def _tested_edit(self, name: str, version: int) -> Tested:
        gate = self._gate()
        adopt = edit_prover(
            self.library,
            self._backend(),
            lambda tool, lock: gate.permit_tool(tool.spec, None, lock, version=tool),
        )
        settled = settle_edit(name, self.library, adopt)
        tool = settled.tool if settled is not None and settled.adopted else self.library.edited(name)
        if settled is not None and not settled.adopted:
            return Tested(name, version, Trial(False, (), settled.reasons), quarantined=False)
        if tool is None:
            raise UsageError(
                f"The tool {name} does not exist any more.", "List the tools with: orch tools list"
            )
        return Tested(name, tool.version, trial_of(tool.trial), quarantined=False, adopted=True)

    def roll_back(self, wanted: str, version: int | None, reason: str) -> BuiltTool:
        with _translated():
            name, _ = self._parsed(wanted)
            return self.library.roll_back(name, version, reason)

    def disable(self, wanted: str, reason: str) -> str:
        with _translated():
            name, _ = self._parsed(wanted)
            self.library.disable(name, reason)
            return name

    def enable(self, wanted: str) -> tuple[str, bool]:
        """The tool, and whether it was out of use."""
        with _translated():
            if wanted in retired(self.library).known() and wanted not in self.library.known():
                bring_back(self.library, wanted)
                return wanted, True
            name, _ = self._parsed(wanted)
            try:
                return name, self.library.enable(name)
            except ToolQuarantined as exc:
                raise UsageError(
                    str(exc).partition("\n")[0],
                    f"Try it first, and enable it when it passes: orch tools test {name}",
                ) from exc

    def review(self, days: int) -> ToolReview:
        """What was not used for so long, and which tools do what others do. The sandbox tries the latter."""
        with _translated():
            names = unused(self.library, timedelta(days=days))
            pairs = overlaps(self.library, self._backend())
            return ToolReview(
                unused=tuple(row_of(self.library, name) for name in names),
                overlaps=tuple((pair.tool.name, pair.by.tool.name, pair.by.cases) for pair in pairs),
            )

    def retire(self, wanted: str, instead: str = "") -> str:
        """Take a tool out of what is offered; `instead` is used in its place, once it passes its cases."""
        with _translated():
            name, _ = self._parsed(wanted)
            if instead:
                other, _ = self._parsed(instead)
                tool, by = self.library.get(name), self.library.get(other)
                if tool is None or by is None or not served_by(tool, [by], self._backend()):
                    raise UsageError(
                        f"{other} does not pass all cases of {name}, so it cannot serve in its place.",
                        f"See which can with: orch tools review. Without another: orch tools retire {name}",
                    )
                instead = other
            retire(self.library, name, instead)
        self._reindex_later()
        return name

    def remove(self, wanted: str) -> tuple[str, Path]:
        """Returns the tool's name and its folder in the trash. The index is updated as well."""
        with _translated():
            name, _ = self._parsed(wanted)
            place = self.library.remove(name)
        self._reindex_later()
        return name, place

    # --- giving and taking

    def export(
        self, wanted: Sequence[str], target: Path, form: Literal["archive", "smolagents", "skill"]
    ) -> list[BuiltTool]:
        """Write tools as an archive, or each as a folder below `target`: for plain smolagents, or a skill."""
        target = check_written(target, self._settings, is_folder=True)
        with _translated():
            tools = []
            for one in dict.fromkeys(wanted):
                name, version = self._parsed(one)
                tool = self.library.version(name, version)
                if tool.edited:
                    raise UsageError(
                        f"The tool {name} v{version} was edited by hand and is not proved.",
                        f"Prove it first with: orch tools test {name}",
                    )
                tools.append(tool)
            if len({tool.name for tool in tools}) < len(tools):
                raise UsageError("A tool is named with two versions.", "Export one version of each.")
            if form == "skill":
                for tool in tools:
                    export_skill(tool, target)
            elif form == "smolagents":
                from toolsmith import smolagents_tools  # smolagents takes seconds to import

                for tool in tools:
                    smolagents_tools.export_folder(tool, target)
            else:
                archive.export(tools, target)
            return tools

    def take_in(self, path: Path, *, beside: bool) -> Iterator[tuple[BuiltTool, archive.ImportedTool | str]]:
        """Each tool of an archive with the imported tool, or the reason why it was not imported."""
        place = NamedFiles(self._settings).check(path, "imported")
        with _translated():
            tools = archive.read_archive(place)
        for tool in tools:
            try:
                with _translated():
                    yield (
                        tool,
                        archive.import_tool(tool, self.library, self._prove, source=path.name, beside=beside),
                    )
            except (UsageError, RunFailed) as exc:
                yield tool, str(exc)

    def reindex(self) -> IndexChanges:
        memory = open_memory(self._settings, self._warn)
        with contextlib.closing(memory), _translated():
            try:
                return reindex_tools(self.library, memory, user_scope(self._settings))
            except MemoryFault as exc:
                raise RunFailed(f"The index of tools could not be written: {exc}") from exc

    # --- parts

    def _reindex_later(self) -> None:
        with contextlib.suppress(ConfigError, RunFailed):  # otherwise the next reindex does it
            self.reindex()

    def _parsed(self, wanted: str) -> tuple[str, int]:
        """`NAME` or `NAME@V`, as an existing tool. Raises `UsageError`."""
        name, at, number = wanted.partition("@")
        known = self.library.known()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"The library has no tool {name!r}.", f"{hint}List the tools with: orch tools list"
            )
        if not at:
            return name, known[name]
        version = int(number.removeprefix("v")) if number.removeprefix("v").isdigit() else 0
        if version not in self.library.versions(name):
            there = ", ".join(f"v{n}" for n in self.library.versions(name))
            raise UsageError(f"The tool {name} has no version {number!r}.", f"It has {there}.")
        return name, version

    def _text(self, name: str, version: int, file: str) -> list[str]:
        self.library.version(name, version)
        path = self.library.folder(name, version) / file
        return path.read_text(encoding="utf-8", errors="replace").splitlines()

    def _backend(self) -> Backend:
        return choose_sandbox(self._settings)

    def _gate(self) -> PermissionGate:
        asks = _Asks(self._settings, self._confirm)
        return PermissionGate(asks, self._settings, masks=self._masks, cancellation=Cancellation())

    def _prove(
        self,
        tool: BuiltTool,
        lock: PackageLock = PackageLock(),  # noqa: B008  (frozen)
    ) -> tuple[Sequence[str], TrialReport | None]:
        """Without a lock its packages are resolved again, because a foreign lock could name others."""
        gate = self._gate()
        return prove_again(
            tool, backend=self._backend(), permit=lambda spec: gate.permit_tool(spec, lock=lock, version=tool)
        )


class _Asks:
    """Asks the user at the terminal for what a trial needs; see `approvals.permissions.QuestionSink`."""

    def __init__(self, settings: Settings, confirm: Confirm | None) -> None:
        self._settings = settings
        self._confirm = confirm

    def needs(self, what: Asked) -> bool:
        return what in self._settings.approve

    def ask(self, question: Question, cancellation: Cancellation) -> ApprovalGiven:  # noqa: ARG002
        """Raises `ApprovalNeeded` if no one can be asked."""
        if self._settings.yes or not self.needs(question.what):
            return self.resolve(question)
        if self._confirm is None:
            raise ApprovalNeeded(
                f"The trial needs an approval. {question.question}",
                "Approve it with -y, or run this on a terminal.",
            )
        said = "yes" if self._confirm(f"{question.question} Allow it for the trial?") else "no"
        return ApprovalGiven(id=question.id, decision=said)

    def request(self, question: Question) -> ApprovalGiven | None:
        return self.resolve(question)

    def resolve(self, question: Question) -> ApprovalGiven:
        return ApprovalGiven(id=question.id, decision="yes", by="settings")

    def is_answered(self, id_: str) -> bool:  # noqa: ARG002
        return False


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Translates the toolsmith's errors into `OrchError`."""
    try:
        yield
    except ToolNotBuilt as exc:
        raise RunFailed(f"The tool {exc.name} did not pass here: {'; '.join(exc.reasons)}") from exc
    except ToolsmithError as exc:
        message, _, remedy = str(exc).partition("\n")
        raise UsageError(message, remedy) from exc
    except OSError as exc:
        raise RunFailed(f"The library cannot be read or written: {exc}") from exc
