"""`orch trust`: what a workspace asks for that only its user can allow."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import ask_trust, print_lines, reporting, show_wishes
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.settings import read_folder
from orchestrator_cli.trust import forget, shown_path
from orchestrator_cli.workspace import check_folder

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def trust(
    *,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Allow it after it was shown.")] = False,
    forget_it: Annotated[
        bool, typer.Option("--forget", help="Take back what you allowed this folder.")
    ] = False,
    common: CommonOptions,
) -> None:
    """Show what this folder asks for that only you can allow, and allow it until its file changes."""
    with reporting(Output(debug=common.debug)):
        workspace = common.workspace or Path.cwd()
        check_folder(workspace)
        question = read_folder(workspace).question
        where = shown_path(question.workspace)
        if forget_it:
            there = forget(question.home, question.workspace)
            print_lines([f"{where} is no longer allowed." if there else f"{where} was not allowed anything."])
            return
        question.check()
        if not question.wishes:
            print_lines([f"{where} asks for nothing that you have to allow."])
        elif yes or not question.is_needed:
            show_wishes(question, sys.stdout, whole=True)
            if question.is_needed:
                question.allow()
                until = "the file changes" if question.uses_file else "you take it back"
                print_lines([f"It is allowed now, until {until}."])
        elif sys.stdin.isatty() and sys.stderr.isatty():
            ask_trust(question, whole=True)
        else:
            show_wishes(question, sys.stdout, whole=True)
            raise ApprovalNeeded("A person has to allow this.", f"Allow it with: {question.command} --yes")
