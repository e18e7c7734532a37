"""`orch schema`: the JSON Schemas of what programs are given."""

import json
from enum import Enum
from typing import Annotated

import typer

from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_content, reporting
from orchestrator_cli.views.envelope import schema_of_envelope, schema_of_events


class Printed(Enum):
    """What a run prints for programs."""

    JSON = "json"
    STREAM_JSON = "stream-json"


app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def schema(
    printed: Annotated[Printed, typer.Argument(help="What the schema is of.")] = Printed.JSON,
    *,
    common: CommonOptions,
) -> None:
    """Print the JSON Schema of what --json prints, or of each line that --stream-json prints."""
    with reporting(Output(quiet=True, debug=common.debug)):
        found = schema_of_envelope() if printed is Printed.JSON else schema_of_events()
        print_content(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
