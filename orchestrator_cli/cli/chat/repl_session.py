"""The interactive loop's session: runs its prompts and answers its slash commands."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.admin.tools import ToolAdmin
from orchestrator_cli.cli.chat.budget import amount_of, names_of, priced
from orchestrator_cli.cli.chat.in_loop import LoopInput, in_loop
from orchestrator_cli.cli.chat.repl import ABOUT_A_RUN, OF_THE_COMMAND_LINE, run_repl
from orchestrator_cli.cli.chat.session import ChatSession
from orchestrator_cli.cli.chat.templates import from_template, templates
from orchestrator_cli.cli.chat.terminal_input import can_read_terminal, terminal_input
from orchestrator_cli.cli.commands.memory import about_session, fact_lines, hit_lines, session_lines
from orchestrator_cli.cli.detached import arguments_of, check_detach, start_detached, started_lines
from orchestrator_cli.cli.editor import edit
from orchestrator_cli.cli.foreground import confirm_no_sandbox
from orchestrator_cli.cli.mentions import NOTHING_NAMED, attached_lines, mentions, named_file
from orchestrator_cli.cli.options import LimitOptions, Output, PermissionOptions, SessionOptions
from orchestrator_cli.cli.pictures import draw_images
from orchestrator_cli.cli.reporting import reporting, run_flags, run_settings
from orchestrator_cli.durable.followed_links import real_path
from orchestrator_cli.errors import Interrupted, OrchError, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.followed_runs import follow_runs
from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.orchestrator import plan_prompt, run_prompt
from orchestrator_cli.plan import Catalogue, Plan
from orchestrator_cli.planning.plan_text import edited_text, is_empty, plan_text, read_plan_text
from orchestrator_cli.planning.structured_output import Unusable
from orchestrator_cli.recall.attachments import find_files
from orchestrator_cli.recall.run_memory import load_beside, open_memory
from orchestrator_cli.recall.scopes import user_scope
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.runs.feedback import Vote, give_feedback
from orchestrator_cli.runs.find import find_run, recent
from orchestrator_cli.runs.verify import read_file_log
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.values import PromptOptions
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.filelog import EntryFilter, FileLog, entries_of, markdown_of, select_entries
from orchestrator_cli.views.graph import plan_lines
from orchestrator_cli.views.notes import Notes
from orchestrator_cli.views.outside import outside_views
from orchestrator_cli.views.text import file_name, one_line, spent
from orchestrator_cli.views.tools import list_lines

OFFERED_RUNS = 20
DRAWN = "/run runs it, /plan edit changes it."


def start_repl(
    output: Output,
    conversation: SessionOptions,
    permissions: PermissionOptions,
    *,
    workspace: Path | None,
    model: str | None,
    max_cost: float | None,
    unsafe_no_sandbox: bool,
    command: Callable[[list[str]], int],
) -> None:
    """Run the interactive loop until the user leaves. Raises `typer.Exit` with the exit code.

    `command` runs a command of the command line, and returns its exit code.
    """
    with in_loop(OF_THE_COMMAND_LINE) as typed, reporting(output) as console:
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=False)
        place = workspace or Path.cwd()  # what it is called now: a folder that is moved has another name
        flags = run_flags(LimitOptions(max_cost=max_cost), permissions)
        session = ReplSession(
            lambda changed, mark: run_settings(
                place, asks=True, mark=mark, **flags | {"model": model} | changed
            ),
            console,
            unsafe,
            command=command,
            typed=typed,
            arguments=arguments_of(permissions, model=model, max_cost=max_cost),
            name=conversation.session or "",
            goes_on=conversation.goes_on,
        )
        code = run_repl(session)
        if code != Interrupted.exit_code:
            session.leave()
        raise typer.Exit(code)


class ReplSession:
    """What one interactive loop is about: settings and screen stay, each prompt is a run of its own."""

    def __init__(
        self,
        load: Callable[[dict[str, Any], str], Settings],
        console: Console,
        unsafe: str = "",
        *,
        command: Callable[[list[str]], int],
        typed: LoopInput,
        arguments: Sequence[str] = (),
        name: str = "",
        goes_on: bool = False,
    ) -> None:
        """Open the session that `name` and `goes_on` name, as in `ChatSession`. Raises `OrchError`.

        `load` reads the settings again, with some of them changed, for the folder with a mark if it has one;
        `command` is as in `start_repl`. `unsafe` says how the user has allowed runs WITHOUT A SANDBOX; it is
        empty otherwise. `arguments` are the options of the loop, for runs in the background.
        """
        self._load = load
        self._settings = settings = load({}, "")
        self._changed: dict[str, Any] = {}
        """Settings that were changed in the loop."""
        self._command = command
        self._runs = follow_runs()
        self._seen = self._runs.sizes
        """The journals when the conversation was up to date."""
        self._model = _planner(settings)
        self._unsafe = unsafe
        self._arguments = arguments
        self._waiting: tuple[Path, ...] = ()
        """Files for the next prompt."""
        self._typed = typed
        self._words: dict[str, tuple[str, ...]] = {}
        self._planned: _Planned | None = None
        self._console = console
        self._latest = _Latest()
        self._chat = ChatSession(settings, self._say, name=name, goes_on=goes_on)
        self.history_path = settings.home / "history"
        self._log = settings.workspace / "fileLog.md"
        if self._chat.exchanges:
            console.lines(about_session(self._chat.name, self._chat.exchanges))

    def ask(self, prompt: str, pasted: Sequence[str] | None) -> int:
        """Run a prompt and print what it comes to. Returns the exit code that `orch ask` would have."""
        return self._run(checked_prompt(prompt, self._settings.home), self._options(prompt, pasted))

    def run_planned(self) -> int:
        """Run the plan that was drawn last, once. Raises `UsageError` if there is none."""
        planned, self._planned = self._drawn(), None
        return self._run(planned.prompt, planned.options, planned.plan)

    def _run(self, text: str, options: PromptOptions, given: Plan | None = None) -> int:
        views: list[EventView] = [self._file_log(), self._console, self._latest]
        views += outside_views(self._settings, self._console.lines)
        said = self._up_to_date().conversation()
        unfinished: Callable[[], str] = str
        try:
            with (
                open_run(
                    self._settings, views, attended=can_read_terminal(self._console), unsafe=self._unsafe
                ) as run,
                terminal_input(run.broker, self._console, takes_remarks=True) as unfinished,
            ):
                try:
                    result = run_prompt(text, run, said, options, given)
                except OrchError:
                    self._chat.failed(run.masks(run.state.said or text), run.usage)
                    raise
                exchange = exchange_of(run.state, result.answer, run.masks)
        except OrchError as exc:
            self._console.error(exc)
            self._typed.keep((), unfinished(), self._say)  # a resumed run reads the remarks
            return exc.exit_code
        self._console.print_answer(result.answer)
        draw_images(self._console, self._settings)
        self._typed.keep(self._latest.state.unread, unfinished(), self._say)
        load_beside(self._settings)
        self._chat.add(exchange, result.usage)
        own = self._settings.home / "runs" / result.run / "journal.jsonl"
        self._seen[own] = self._runs.sizes[own]
        return result.shortfall.exit_code if result.shortfall else 0

    def _up_to_date(self) -> ChatSession:
        """The session, with what runs of commands and in the background have added."""
        if (now := self._runs.sizes) != self._seen:
            self._chat.refresh()
            self._seen = now
        return self._chat

    def _options(self, prompt: str, pasted: Sequence[str] | None) -> PromptOptions:
        """The files that wait for the prompt, and those that it names with @ if it was typed."""
        found = mentions(prompt, self._settings.workspace, pasted) if pasted is not None else NOTHING_NAMED
        for note in found.notes:
            self._say(note)
        if found.pasted:
            names = one_line(", ".join(found.pasted), 200)
            self._say(f"note  {names} was pasted and is not attached; /file NAME attaches a file.")
        attach, self._waiting = (*self._waiting, *found.files), ()
        return PromptOptions(attach=tuple(dict.fromkeys(path.absolute() for path in attach)))

    def attach(self, names: list[str]) -> list[str]:
        """Attach files to the next prompt. Raises `UsageError` for one that cannot be attached."""
        files = [named_file(name, self._settings.workspace) for name in names]
        find_files(files, self._settings)
        self._waiting = (*self._waiting, *files)
        paths = [file_name(str(real_path(path))) for path in self._waiting]
        return [f"attached to the next prompt: {path}" for path in paths] or ["Nothing is attached."]

    def files(self) -> list[str]:
        return [str(self._settings.workspace)]

    def left(self) -> str:
        """What was typed during the last run and came too late for it; it is returned once."""
        left, self._typed.late = self._typed.late, ""
        self._words.clear()
        return left

    def words(self, command: str) -> Sequence[str]:
        """What may follow a slash command, as it is when the line begins."""
        if command not in self._words:
            self._words[command] = ()
            with contextlib.suppress(OrchError):
                self._words[command] = tuple(self._offered(command))
        return self._words[command]

    def _offered(self, command: str) -> Iterator[str]:
        if command in ABOUT_A_RUN:
            yield "last"
            for one in recent(self._settings, everywhere=False, limit=OFFERED_RUNS):
                yield one.where.run
        elif command == "session":
            yield from (one.name for one in self._chat.all())

    def templates(self) -> Mapping[str, str]:
        return templates(self._settings.home)

    def from_template(self, name: str, words: str) -> str:
        return from_template(self._settings.home, name, words)

    def background(self, prompt: str, pasted: Sequence[str] | None) -> list[str]:
        """Run a prompt in the background. Raises `UsageError` without a sandbox."""
        check_detach(detach=True, unsafe=bool(self._unsafe))
        attach = self._options(prompt, pasted).attach
        shown = attached_lines(attach, self._settings)
        files = arguments_of(attach=list(attach))
        command = ("ask", "-", *self._arguments, *files, f"--session={self._chat.name}")
        return shown + started_lines(start_detached(self._settings, command, self._arguments, prompt))

    def command(self, arguments: list[str]) -> int:
        """Run a command of the command line in this workspace. Returns its exit code."""
        self._check_folder()
        return self._command([*arguments, "-C", str(self._settings.workspace)])

    def model(self, name: str) -> list[str]:
        """Lines about the models that are asked; with a name, ask that one from now on.

        Raises `ConfigError` if it cannot be asked; nothing is changed then.
        """
        settings = self._settings
        if name:
            settings = self._with(model=name)
            self._say(f"trying {one_line(name, 100)} …")
            priced(settings)
        names = names_of(settings)
        if name:
            self._change(settings, "model", name)
            self._model = names["planner"]
        return [f"{role:<9} {one_line(model)}" for role, model in names.items()]

    def budget(self, dollars: str) -> list[str]:
        """Lines about what a prompt may cost; with a number, what it may cost from now on.

        `off` removes the limit. Raises `UsageError` if it is neither, and `ConfigError` if a model has no
        price; nothing is changed then.
        """
        if dollars:
            amount = amount_of(dollars)
            self._say("looking up prices …")
            self._change(priced(self._with(max_cost=amount)), "max_cost", amount)
        limit = self._settings.max_cost
        most = "is not limited" if limit is None else f"is at most ${limit:.2f}"
        return [f"The cost of each prompt {most}. Spent in this loop: {spent(self._runs.spent)}."]

    def _with(self, **changed: Any) -> Settings:
        """The settings with something changed. Raises `ConfigError`."""
        return self._load(self._changed | changed, self._settings.origin.mark)

    def _change(self, settings: Settings, name: str, value: object) -> None:
        """Use these settings from now on, also in the background."""
        option = f"--{name.replace('_', '-')}="
        others = (one for one in self._arguments if not one.startswith(option))
        self._arguments = (*others, *([] if value is None else [f"{option}{value}"]))
        self._settings, self._changed = settings, self._changed | {name: value}

    def status(self) -> str:
        """The model, what all runs of this loop have cost, the folder and the session, in one line."""
        return " · ".join(
            (
                self._model,
                spent(self._runs.spent),
                str(self._settings.workspace),
                f"session {self._chat.name}",
            )
        )

    def plan(self, prompt: str, pasted: Sequence[str] | None) -> list[str]:
        text, options = checked_prompt(prompt, self._settings.home), self._options(prompt, pasted)
        self._console.lines(["planning …"])
        said = self._up_to_date().conversation()
        with open_run(self._settings, [Notes(self._console.lines)], wants_engine=False) as run:
            made = plan_prompt(text, run, said, options)
            recalled = run.state.recalled
            catalogue = run.planner_context(recalled.tools if recalled else ()).catalogue
        self._planned = _Planned(text, options, made, catalogue)
        return [*plan_lines(made), DRAWN]

    def edit_planned(self) -> list[str]:
        """Open the plan that was drawn last in the user's editor. Returns its graph as lines.

        Raises `UsageError` if there is none, or if it cannot run as it is now; what was written is kept then.
        """
        planned = self._drawn()
        with self._console.held():
            text = edit(planned.text)
        if text is None or is_empty(text):
            return ["Nothing was changed."]
        try:
            plan, repairs = read_plan_text(text, planned.catalogue)
        except Unusable as exc:
            self._planned = replace(planned, text=edited_text(text, exc.faults, runs=False))
            raise UsageError(
                "The plan cannot run like this.",
                "\n".join([*(f"- {one}" for one in exc.faults), "/plan edit opens what you wrote again."]),
            ) from exc
        plan = plan.model_copy(update={"version": planned.plan.version, "routes": planned.plan.routes})
        self._planned = replace(planned, plan=plan, text=plan_text(plan, runs=False))
        return [*(f"set right: {one}" for one in repairs), *plan_lines(plan), DRAWN]

    def _drawn(self) -> "_Planned":
        if self._planned is None:
            raise UsageError("No plan waits to be run.", "Draw one with /plan PROMPT.")
        return self._planned

    def last_plan(self) -> list[str] | None:
        state = self._latest.state
        if not state.run:
            found = next(recent(self._settings, everywhere=False, limit=1), None)
            state = state if found is None else found.state
        return plan_lines(state.plan) if state.has_plan else None

    def tools(self) -> list[str]:
        return list_lines(ToolAdmin(self._settings, warn=self._say).rows())

    def log_tail(self) -> str:
        """The section of fileLog.md about the last run."""
        self._check_folder()
        if not self._log.exists():
            return ""
        return markdown_of(select_entries(entries_of(read_file_log(self._log)), EntryFilter(run="last")))

    def feedback(self, vote: Vote, why: str) -> list[str]:
        """Say how the last run of this loop was. Raises `UsageError` before the first one."""
        if self._latest.state.finished is None:
            raise UsageError("There is no run yet.", "/good [WHY] and /bad [WHY] are about the last run.")
        self._check_folder()
        where = find_run(self._settings, self._latest.state.run)
        with contextlib.closing(open_memory(self._settings, self._say)) as memory:
            log = [self._file_log()]
            user = user_scope(self._settings)
            why = why.strip().strip('"')
            return [give_feedback(where, vote, why, memory=memory, user=user, views=lambda: log)]

    def session(self, name: str) -> list[str]:
        """Lines about the session; with a name, switch to that one first."""
        if name:
            self._chat.switch(name)
        return about_session(self._chat.name, self._up_to_date().exchanges)

    def sessions(self) -> list[str]:
        return session_lines(self._chat.all(), self._chat.name)

    def memory(self, text: str) -> list[str]:
        """Lines about what is remembered of the user; with a text, only what is related to it."""
        keeping = MemoryAdmin(self._settings, warn=self._say)
        return hit_lines(keeping.search(text, limit=10)) if text else fact_lines(keeping.facts())

    def _file_log(self) -> FileLog:
        return FileLog(self._log, self._settings.home, self._settings.origin.mark)

    def _check_folder(self) -> None:
        check_same(self._settings.workspace, self._settings.origin.mark)

    def _say(self, line: str) -> None:
        self._console.lines([line])

    def leave(self) -> None:
        """End the session, and remember facts about the user."""
        self._chat.leave()


def _planner(settings: Settings) -> str:
    """The model that plans; if there is none, why, and what helps first."""
    try:
        return LiveModels().names(settings)["planner"]
    except OrchError as exc:
        return f"{exc.message} {exc.remedy.partition(chr(10))[0]}".strip()


@dataclass(frozen=True)
class _Planned:
    """A plan that was drawn and did not run."""

    prompt: str
    options: PromptOptions
    plan: Plan
    catalogue: Catalogue
    text: str = ""
    """What an editor is given; it may hold what was written and cannot run."""

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", plan_text(self.plan, runs=False))


class _Latest:
    """The view that keeps the state of the run that began last, for `/plan` and for feedback."""

    def __init__(self) -> None:
        self.state = RunState()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        self.state = state

    def close(self) -> None:
        """Nothing is held open."""
