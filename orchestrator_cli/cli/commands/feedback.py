"""`orch feedback`: say of a run that it was good or bad, and why; later plans are made by it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator_cli.cli.options import AsJson, Debug, Folder, Output, RunName
from orchestrator_cli.cli.running import reporting, settings_of

if TYPE_CHECKING:
    from orchestrator_cli.journal.journal import View

app = typer.Typer(rich_markup_mode=None)


@app.command()
def feedback(
    run: RunName,
    vote: Annotated[Literal["good", "bad"], typer.Argument(help="How it was.", show_default=False)],
    why: Annotated[str, typer.Argument(metavar="[WHY]", help="In a sentence; planners are told.")] = "",
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say whether a run was good or bad; later plans for such requests are made by it."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.recall.run_memory import open_memory
        from orchestrator_cli.runs.feedback import give_feedback
        from orchestrator_cli.runs.find import find_run
        from orchestrator_cli.views.filelog import FileLog

        settings = settings_of(workspace)
        where = find_run(settings, run)

        def views() -> list[View]:
            log = FileLog(where.root / "fileLog.md", where.home)
            log.complete(where.events())
            return [log]

        of_its_home = settings.model_copy(update={"home": where.home})
        with contextlib.closing(open_memory(of_its_home, lambda _: None)) as memory:
            said = give_feedback(where, vote, why, memory=memory, views=views)
        if as_json:
            told = {"run": where.run, "vote": vote, "why": why, "message": said}
            typer.echo(json.dumps(told, ensure_ascii=False))
        else:
            console.lines([said])
