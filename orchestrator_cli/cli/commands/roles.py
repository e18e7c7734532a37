"""`orch roles`: the roles that agents are made from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from orchestrator_cli.cli.options import InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_either, reporting, settings_of
from orchestrator_cli.errors import OrchError
from orchestrator_cli.models.sources import LiveModels, model_fault
from orchestrator_cli.roles import load_roles, role_files
from orchestrator_cli.settings import Settings
from orchestrator_cli.trust import shown_path
from orchestrator_cli.views.text import one_line
from toolsmith.names import OF_EVERY_AGENT

app = typer.Typer(rich_markup_mode=None)

BUILT_IN = "built in"


@app.command()
@with_options
def roles(common: InspectOptions) -> None:
    """List the roles that agents are made from: the kind of agent, its model, and the file."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        found = _rows(settings)
        print_either(common.as_json, found, _lines(found))
        if not common.as_json:
            tools = ", ".join(OF_EVERY_AGENT)
            console.lines(
                [
                    f"Each agent has the tools that its subtask names, and {tools}.",
                    f"Your own are Markdown files in {shown_path(settings.home / 'roles')}.",
                ]
            )


def _rows(settings: Settings) -> list[dict[str, Any]]:
    files, usual = role_files(settings.home), _usual_model(settings)
    found = []
    for role in load_roles(settings.home).values():
        # Agents of a role whose model cannot be asked ask that of the others.
        fault = model_fault(role.model) if role.model else ""
        found.append(
            {
                "name": role.name,
                "agent": role.agent,
                "when": role.when,
                "model": role.model if role.model and not fault else usual,
                "own_model": role.model,
                "fault": fault,
                "tools": list(OF_EVERY_AGENT),
                "parameters": role.parameters.model_dump(mode="json", exclude_defaults=True),
                "file": str(files[role.name]) if files[role.name] else None,
            }
        )
    return found


def _usual_model(settings: Settings) -> str | None:
    """The model of agents whose role names none; None if there is none."""
    try:
        return LiveModels().names(settings)["agent"]
    except OrchError:
        return None


def _lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width = max((len(row["name"]) for row in found), default=0)
    for row in found:
        model = one_line(row["model"] or "no model", 80)
        yield f"{one_line(row['name']):<{width}}  {row['agent']:<5}  {model}  ({row['file'] or BUILT_IN})"
        yield f"    {one_line(row['when'], 300)}"
        if row["fault"]:
            yield f"    note: {one_line(row['own_model'], 80)} cannot be asked: {one_line(row['fault'], 200)}"
