"""`orch schedule`: what runs by itself, and when; and `orch up`, the process that starts it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from orchestrator_cli.cli.commands.ask import inputs_of, no_process
from orchestrator_cli.cli.detached import arguments_of
from orchestrator_cli.cli.options import (
    AnswerOptions,
    CommonOptions,
    Folder,
    InspectOptions,
    LimitOptions,
    ModelName,
    Output,
    PermissionOptions,
    filled,
    with_options,
)
from orchestrator_cli.cli.reporting import (
    print_json,
    print_lines,
    reporting,
    run_flags,
    run_settings,
    settings_of,
)
from orchestrator_cli.cli.schedule_times import next_of, time_text, when_of
from orchestrator_cli.durable.lengths import seconds_of
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.engine.deployments import next_time
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.errors import UsageError
from orchestrator_cli.execution.processes import plan_of
from orchestrator_cli.notify_settings import NotifyEvent
from orchestrator_cli.runs.background import last_of_schedules
from orchestrator_cli.runs.find import FoundRun, look_at
from orchestrator_cli.runtime import checked_prompt
from orchestrator_cli.schedules.schedule import Schedule, ScheduleStore, made
from orchestrator_cli.settings import Settings
from orchestrator_cli.surroundings import time_zone
from orchestrator_cli.values import seconds_between
from orchestrator_cli.views.text import clean, duration, label, one_line
from orchestrator_cli.workspace import check_folder

app = typer.Typer(rich_markup_mode=None)

NOT_SERVED = "Nothing starts by itself while orch up is not running. Start it with: orch up"
ACCEPT = "If you mean the folder that is there now: orch schedule accept "
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The name of the schedule.")]


@app.callback(invoke_without_command=True)
@with_options
def schedule(context: typer.Context, *, common: CommonOptions) -> None:
    """Manage runs that start by themselves. Without a command, list the schedules."""
    if context.invoked_subcommand is None:
        list_command(**vars(common))


@app.command()
@with_options
def add(
    name: ScheduleName,
    prompt: Annotated[str, typer.Argument(help="What you want done each time.", callback=filled)] = "",
    *,
    process: Annotated[
        str,
        typer.Option(
            "--process",
            metavar="NAME",
            help="Instead of a prompt, run this process.",
            callback=filled,
        ),
    ] = "",
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUE", help="An input of the process; repeat for more."),
    ] = None,
    cron: Annotated[
        str, typer.Option(help='Run at these times, as in crontab: "0 6 * * 1-5".', callback=filled)
    ] = "",
    every: Annotated[str, typer.Option(help="Run this often: 30s, 10m, 2h, 1d, 1w.", callback=filled)] = "",
    at: Annotated[
        str, typer.Option(help='Run once, at this time: "2027-01-31 18:00".', callback=filled)
    ] = "",
    rrule: Annotated[
        str, typer.Option(help="Run at the times of this recurrence rule of iCalendar.", callback=filled)
    ] = "",
    timezone: Annotated[
        str, typer.Option(help="Read the times in this time zone (default: this machine's).", callback=filled)
    ] = "",
    on_file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Run when a file of the workspace that matches this pattern changes.",
            callback=filled,
        ),
    ] = None,
    on_event: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Run at each event of Prefect of this name, which may end in *.",
            callback=filled,
        ),
    ] = "",
    resource: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="With --on-event, run only if the event is about this resource.",
            callback=filled,
        ),
    ] = "",
    webhook: Annotated[
        bool,
        typer.Option("--webhook", help="Run at each request with the token that this command shows."),
    ] = False,
    after: Annotated[
        str,
        typer.Option(metavar="NAME", help="Run after each completed run of this schedule.", callback=filled),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(
            "--if",
            metavar="EXPRESSION",
            help="With --after, run only if this is true of that run's `outcome`, `answer` and `value`.",
            callback=filled,
        ),
    ] = "",
    missed: Annotated[
        Literal["skip", "once", "all"],
        typer.Option(help="What to do about times that orch up has missed."),
    ] = "once",
    overlap: Annotated[
        Literal["skip", "queue", "cancel"],
        typer.Option(help="What to do while the previous run is still at work."),
    ] = "queue",
    retries: Annotated[
        int, typer.Option(min=0, max=5, help="Retry a process that fails up to this many times.")
    ] = 0,
    max_cost_day: Annotated[
        float | None,
        typer.Option(help="Start no more runs on a day once they have cost this many US dollars."),
    ] = None,
    notify: Annotated[
        str,
        typer.Option(
            metavar="EVENTS",
            help="Notify you of these events: done,failed,waiting,budget (default: as in orch.toml).",
            callback=filled,
        ),
    ] = "",
    no_notify: Annotated[bool, typer.Option("--no-notify", help="Never notify you of its runs.")] = False,
    model: ModelName = None,
    limits: LimitOptions,
    permissions: PermissionOptions,
    answers: AnswerOptions,
    workspace: Folder = None,
    output: Output,
) -> None:
    """Add a schedule, or replace the one of this name. orch up starts its runs."""
    with reporting(output) as console:
        settings = run_settings(
            workspace, asks=output.is_for_people, model=model, **run_flags(limits, permissions)
        )
        store = ScheduleStore(settings.home)
        if after and after not in store.all():
            raise UsageError(f"There is no schedule {after} to run after.", "Add that one first.")
        inputs = {}
        if process and (others := arguments_of(limits, permissions, model=model)):
            raise UsageError(
                f"A process does not take {others[0].partition('=')[0]}.",
                "Leave it out: the schedule lets this process run without a question, and timeout_s of the "
                "process in orch.toml limits its time.",
            )
        if process:
            if process not in settings.processes:
                raise no_process(process, settings)
            inputs = inputs_of(given or [], settings.processes[process])
            plan_of(process, settings.processes[process], inputs)
        schedule = made(
            name=name,
            workspace=str(settings.workspace.resolve()),
            mark=settings.origin.mark,
            prompt=checked_prompt(prompt, settings.home) if prompt else "",
            process=process,
            inputs=inputs,
            cron=cron,
            every_s=_seconds(every) if every else None,
            at=at or None,
            rrule=rrule,
            timezone=timezone or time_zone(),
            anchor=datetime.now(UTC).replace(microsecond=0) if every else None,
            files=on_file or (),
            event=on_event,
            resource=resource,
            webhook=webhook,
            after=after,
            condition=condition,
            missed=missed,
            overlap=overlap,
            arguments=arguments_of(limits, permissions, model=model),
            retries=retries,
            max_cost_day=max_cost_day,
            notify=_notified(notify, never=no_notify),
            patience=answers.patience,
        )
        due = _first_time(schedule)
        replaced = " It replaces the one of this name." if name in store.all() else ""
        token = store.make_token(name, wanted=webhook)
        store.put(schedule)
        console.lines([f"{name} runs {when_of(schedule)}, as long as orch up does.{replaced}"])
        console.lines([f"Next: {time_text(due)}"] if due else [])
        console.lines(_remarks(store, schedule, token, settings))


@app.command("list")
@with_options
def list_command(common: InspectOptions) -> None:
    """List the schedules."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        home = settings_of(common.workspace).home
        store = ScheduleStore(home)
        found = list(store.all().values())
        last = {name: look_at(past) for name, past in last_of_schedules(home).items()}
        if common.as_json:
            print_json(
                [one.model_dump(mode="json") | _latest(store, one.name, last.get(one.name)) for one in found]
            )
        elif found:
            print_lines([line for one in found for line in _lines(store, one, last.get(one.name))])
            console.lines([] if store.is_served else [NOT_SERVED])
        else:
            console.lines(["There are no schedules. Add one with: orch schedule add"])


@app.command()
@with_options
def show(
    name: ScheduleName,
    *,
    token: Annotated[
        bool, typer.Option("--token", help="Show the token of its webhook, and nothing else.")
    ] = False,
    common: InspectOptions,
) -> None:
    """Show everything about a schedule."""
    with reporting(Output(quiet=True, debug=common.debug)):
        store = ScheduleStore(settings_of(common.workspace).home)
        found = store.get(name)
        if token:
            secret = store.token(name) if found.webhook else None
            if secret is None:
                raise UsageError(f"{name} has no webhook.", "Add it again with --webhook.")
            if common.as_json:
                print_json({"url": store.hook_url(name), "token": secret})
            else:
                print_lines([secret])
            return
        last = look_at(past) if (past := last_of_schedules(store.folder.parent).get(name)) else None
        url = {"url": store.hook_url(name)} if found.webhook else {}
        due = next_of(found)
        if common.as_json:
            next_one = {"next": due.isoformat() if due else None}
            print_json(found.model_dump(mode="json") | url | next_one | _latest(store, name, last))
            return
        rows = found.model_dump(mode="json", exclude_defaults=True) | url
        rows |= {"next": time_text(due) if due else "never"} if found.timing and not found.paused else {}
        print_lines([f"{key:<13} {clean(str(value))}" for key, value in rows.items()])
        print_lines(_latest_lines(store, name, last, whole=True))


@app.command()
@with_options
def run(name: ScheduleName, common: CommonOptions) -> None:
    """Run a schedule now, in addition to its times."""
    with reporting(Output(debug=common.debug)) as console:
        store = ScheduleStore(settings_of(common.workspace).home)
        if why := store.get(name).replaced:
            raise UsageError(f"{name} cannot run: {why.partition(';')[0]}.", f"{ACCEPT}{name}")
        store.trigger(name, "asked for with orch schedule run")
        console.lines([f"{name} runs as soon as orch up takes it up."])
        console.lines([] if store.is_served else [NOT_SERVED])


@app.command()
@with_options
def pause(
    name: ScheduleName,
    *,
    off: Annotated[bool, typer.Option("--off", help="Let it run again.")] = False,
    common: CommonOptions,
) -> None:
    """Start no more runs of a schedule. --off lets it run again."""
    with reporting(Output(debug=common.debug)) as console:
        store = ScheduleStore(settings_of(common.workspace).home)
        store.put(store.get(name).model_copy(update={"paused": not off}))
        console.lines([f"{name} {'runs again' if off else 'is paused'}."])


@app.command()
@with_options
def accept(name: ScheduleName, common: CommonOptions) -> None:
    """Let a schedule run in the folder that has taken the place of its workspace."""
    with reporting(Output(debug=common.debug)) as console:
        store = ScheduleStore(settings_of(common.workspace).home)
        found = store.get(name)
        settings = run_settings(Path(found.workspace), asks=True)
        check_folder(settings.workspace)
        store.put(found.model_copy(update={"mark": settings.origin.mark}))
        console.lines([f"{name} runs in the folder that is {found.workspace} now."])


@app.command()
@with_options
def remove(name: ScheduleName, common: CommonOptions) -> None:
    """Remove a schedule. A run of it that is at work continues."""
    with reporting(Output(debug=common.debug)) as console:
        ScheduleStore(settings_of(common.workspace).home).remove(name)
        console.lines([f"{name} is removed."])


def _lines(store: ScheduleStore, one: Schedule, last: FoundRun | None) -> list[str]:
    state = "  paused" if one.paused else ""
    what = one.prompt or f"process {one.process}"
    lines = [f"{one.name:<20} {when_of(one)}{state}", f"    {one_line(what, 100)}"]
    lines += [f"    warning: {one.replaced}"] if one.replaced else []
    lines += [f"    next: {time_text(due)}"] if (due := next_of(one)) else []
    return lines + [f"    {truncate(line, 200)}" for line in _latest_lines(store, one.name, last)]


def _latest_lines(
    store: ScheduleStore, name: str, last: FoundRun | None, *, whole: bool = False
) -> list[str]:
    """What became of a schedule last: its newest run, and why it did not run since, or at all if `whole`."""
    note, began = store.noted(name), last.state.began if last else None
    lines = []
    if last is not None:
        lines.append(f"last: {last.status}{_ago(began) if began else ''}, run {label(last.where.run)}")
    if note is not None and (whole or began is None or note.time > began):
        lines.append(f"last: did not run,{_ago(note.time)}: {label(note.why)}")
    return lines


def _ago(time: datetime) -> str:
    return f" {duration(seconds_between(time, datetime.now(UTC)))} ago"


def _latest(store: ScheduleStore, name: str, last: FoundRun | None) -> dict[str, object]:
    """The same as JSON: the newest run, and when and why it last did not run."""
    note = store.noted(name)
    return {
        "last": None if last is None else {"run": last.where.run, "state": last.status},
        "not_run": None if note is None else note.model_dump(mode="json"),
    }


def _remarks(store: ScheduleStore, one: Schedule, token: str | None, settings: Settings) -> list[str]:
    """What else its user should know of a new schedule. `token` is None if it was shown before."""
    lines = []
    if one.webhook:
        again = f"orch schedule show {one.name} --token"
        lines.append(f"Call it with: POST {store.hook_url(one.name)} and Authorization: Bearer TOKEN")
        lines.append(f"Token: {token} (again with: {again})" if token else f"Its token is as before: {again}")
    if one.notify and not settings.notify.has_way:
        lines.append("Nothing is sent before your orch.toml says how. See docs/notifications.md.")
    return lines if store.is_served else [*lines, NOT_SERVED]


def _notified(text: str, *, never: bool) -> tuple[str, ...] | None:
    """The events that `--notify` names; None if the settings hold. Raises `UsageError`."""
    if text and never:
        raise UsageError("--notify excludes --no-notify.", "Leave one of them out.")
    if not text:
        return () if never else None
    events = tuple("over_budget" if one == "budget" else one for one in map(str.strip, text.split(",")))
    if unknown := [one for one in events if one not in get_args(NotifyEvent)]:
        raise UsageError(f"{unknown[0]!r} is not an event.", "Name some of: done,failed,waiting,budget.")
    return events


def _first_time(one: Schedule) -> datetime | None:
    """The next time of a new schedule; None if no time starts it. Raises `UsageError` if there is none."""
    if one.at is not None and one.is_past:
        raise UsageError(f"{one.at} has gone by ({one.timezone}).", "Name a time that is to come.")
    if one.is_left_out:
        raise UsageError(
            f"{one.at} does not exist in {one.timezone}: the clocks leave it out.", "Name another time."
        )
    if one.timing is None:
        return None
    import_prefect()
    try:
        found = next_time(one.timing)
    except ValueError as exc:
        said = str(exc).splitlines()[-2 if "\n" in str(exc) else 0].strip()
        said = said.removeprefix("Value error, ").partition(" [type=")[0]
        raise UsageError(f"These times cannot be used: {said}.") from exc
    if found is None:
        raise UsageError(f"It would never run: there is no time to come {when_of(one)}.", "Name other times.")
    return found


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as exc:
        raise UsageError(f"{exc}.", "Write 30s, 10m, 2h, 1d or 1w.") from exc
