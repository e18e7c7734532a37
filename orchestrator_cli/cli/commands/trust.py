"""`orch trust`: what a workspace brings that only its user can allow."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import (
    ask_guidance,
    ask_trust,
    on_terminal,
    print_lines,
    reporting,
    settings_of,
    show_wishes,
)
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.recall.guidance import Brought, find_guidance, forget_answers
from orchestrator_cli.settings import read_folder
from orchestrator_cli.trust import TrustQuestion, forget, shown_path
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
    """Show what this folder brings that only you can allow, and allow it until its files change."""
    with reporting(Output(debug=common.debug)):
        workspace = common.workspace or Path.cwd()
        check_folder(workspace)
        folder = read_folder(workspace)
        question = folder.question
        where = shown_path(question.workspace)
        if forget_it:
            there = [one(question.home, question.workspace) for one in (forget, forget_answers)]
            print_lines(
                [f"{where} is no longer allowed." if any(there) else f"{where} was not allowed anything."]
            )
            return
        question.check()
        brought = find_guidance(settings_of(workspace))
        if not question.wishes and not brought.offers:
            print_lines([f"{where} asks for nothing that you have to allow."])
        print_lines([*folder.faults, *brought.refused])
        # Both are shown before either ends the command.
        is_open = [_settings(question, yes=yes), _guidance(brought, yes=yes)]
        if any(is_open):
            raise ApprovalNeeded("A person has to allow this.", f"Allow it with: {question.command} --yes")


def _settings(question: TrustQuestion, *, yes: bool) -> bool:
    """Show what `orch.toml` asks for. Returns whether it is still to be allowed."""
    if not question.wishes:
        return False
    asks = question.is_needed and not yes and on_terminal()
    if asks:
        ask_trust(question, whole=True)
        return False
    show_wishes(question, sys.stdout, whole=True)
    if question.is_needed and yes:
        question.allow()
        until = "the file changes" if question.uses_file else "you take it back"
        print_lines([f"It is allowed now, until {until}."])
    return question.is_needed and not yes


def _guidance(brought: Brought, *, yes: bool) -> bool:
    """Show what models would be given. Returns whether it is still to be allowed."""
    left = brought.not_allowed
    for offer in brought.offers:
        state = "not allowed" if offer in left else "allowed"
        print_lines([f"For models, {state}:", *offer.page])
    if not left:
        return False
    if yes:
        brought.answer(left, allow=True)
        print_lines(["Models are given this from now on, until it changes."])
    elif on_terminal():
        ask_guidance(brought, left)
    return not yes and not on_terminal()
