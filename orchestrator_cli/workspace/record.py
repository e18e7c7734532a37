"""The record of one commit: what makes it decided while it goes on, and what undo reads later.

It is written beside the state of `orch` before anything in the workspace changes, and moved
into the run's history in one step when everything has changed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.events import Part
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.marks import Change, Ident

SCHEMA = 1


class Author(Part):
    """Whose commit it is."""

    run: str
    subtask: str = ""
    attempt: int = 1
    undo_to: str | None = None
    """None of a subtask's commit; of an undo the subtask it went back to, or empty for the whole run."""

    def __str__(self) -> str:
        what = f"{self.subtask or 'a subtask'}" if self.undo_to is None else "an undo"
        return f"{what} of run {self.run}"


class Step(Part):
    """One rename or the like. Done twice it does no more than once, and each can be taken back."""

    do: Literal["take", "rmdir", "mkdir", "put", "chmod"]
    path: str
    slot: str = ""
    """Name in the staging folder: where `put` takes from and `take` puts to."""
    before: Ident | None = None
    staged: Ident | None = None
    mode: int = 0
    """Of `mkdir` and `chmod` the new permissions, of `rmdir` the old ones."""
    old_mode: int = 0
    must: bool = True
    """False of a folder that stays where somebody has put something into it meanwhile."""


class Record(Part):
    version: int = Field(default=SCHEMA, alias="schema")
    author: Author
    root: str
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    phase: Literal["forward", "back"] = "forward"
    staging: str
    """Name of the staging folder in the root."""
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]

    model_config = ConfigDict(frozen=True, populate_by_name=True)


def read_record(path: Path) -> Record | None:
    """None where there is none. Raises `WorkspaceFault` where it cannot be understood."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise WorkspaceFault(f"{path}, the record of a commit, was written by another version") from exc


def write_record(path: Path, record: Record) -> None:
    """All of it on the disk, in place of what was there, or nothing. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, record.model_dump_json(by_alias=True), scratch=path.with_suffix(".tmp"))
