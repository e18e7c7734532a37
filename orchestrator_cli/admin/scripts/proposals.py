"""Scripts as processes: what is new, and what of a registered one has changed. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator_cli.admin.scripts.calls import ScriptCall, first_sentence
from orchestrator_cli.admin.scripts.folder import LeftOut, Script
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.process_settings import Process

NAME_CHARS = 40


@dataclass(frozen=True)
class Proposal:
    """A process that could be registered, or an entry of the user's that is not what its script is now."""

    name: str
    process: Process
    script: Path
    changes: tuple[str, ...] = ()
    """The fields that differ from those of a table that is there; empty for a new one."""
    notes: tuple[str, ...] = field(default=())

    @property
    def table(self) -> dict[str, Any]:
        """The fields to write."""
        row = self.process.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        row = {name: row[name] for name in Process.model_fields if name in row}
        return {name: row[name] for name in self.changes} if self.changes else row

    def read_only(self) -> "Proposal":
        """The same without effects."""
        return replace(self, process=self.process.model_copy(update={"effects": False}))


@dataclass(frozen=True)
class Proposals:
    """What a folder comes to, beside what is registered."""

    proposals: tuple[Proposal, ...]
    left_out: tuple[LeftOut, ...]
    registered: tuple[str, ...]
    """The names of processes that are as their scripts are."""


def propose(found: Iterable[Script | LeftOut], there: Mapping[str, Any]) -> Proposals:
    """Compare scripts with the tables of processes that the user has; none of these is taken for another."""
    proposals, left_out, registered = list[Proposal](), list[LeftOut](), list[str]()
    taken = {name.lower() for name in there}
    for one in found:
        if isinstance(one, LeftOut):
            left_out.append(one)
            continue
        for call in one.calls:
            fields = _fields(one, call)
            try:
                process = Process.model_validate(fields)
            except ValidationError as exc:
                why = f"its parameters make no process: {exc.errors(include_url=False)[0]['msg']}"
                left_out.append(LeftOut(one.path, foreign_line(why, 300)))
                continue
            name = next((name for name, row in there.items() if _is_of(row, fields, call)), "")
            changes = _changes(there[name], fields) if name else ()
            if name and not changes:
                registered.append(name)
                continue
            if not name:
                name, changes = _free_name(one.path, call, len(one.calls), taken), ()
                taken.add(name)
            if changes:
                process = process.model_copy(update=_kept(there[name]))
            proposals.append(Proposal(name, process, one.path, changes, call.notes))
    return Proposals(tuple(proposals), tuple(left_out), tuple(registered))


def _fields(script: Script, call: ScriptCall) -> dict[str, Any]:
    about = first_sentence(call.about) if call.words or call.flow else first_sentence(script.about)
    about = about or first_sentence(call.about) or first_sentence(script.about)
    words = f" {' '.join(call.words)}" if call.words else ""
    about = about or f"runs the script {foreign_line(script.path.name, 80)}{words}"
    inputs = {"inputs": call.inputs}
    if call.flow:
        return {"when": about, "flow": f"{script.path}:{call.flow}", **inputs}
    return {"when": about, "command": list(script.command), "arguments": list(call.arguments), **inputs}


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a change leaves as the user has it."""
    return {key: row[key] for key in ("when", "effects", "timeout_s") if key in row}


def _is_of(row: Any, fields: Mapping[str, Any], call: ScriptCall) -> bool:
    """Whether a table of the user's calls the same script in the same way."""
    if not isinstance(row, dict):
        return False
    if "flow" in fields:
        return bool(row.get("flow") == fields["flow"])
    command, arguments = row.get("command"), row.get("arguments", [])
    if not isinstance(command, list) or not isinstance(arguments, list):
        return False
    words = [text for text in arguments if isinstance(text, str) and "{" not in text and text != "--"]
    return command[-1:] == fields["command"][-1:] and words == list(call.words)


def _changes(row: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that are not what the script is now. A table without `arguments` was made otherwise."""
    if "flow" not in fields and "arguments" not in row:
        return ()
    return tuple(key for key in ("command", "arguments", "inputs") if row.get(key) != fields.get(key))


def _free_name(path: Path, call: ScriptCall, calls: int, taken: set[str]) -> str:
    more = (*call.words, call.flow) if calls > 1 else ()
    name = _name("_".join(filter(None, (path.stem, *more))))
    if name not in taken:
        return name
    by_ending = _name(f"{name}_{path.suffix[1:]}") if path.suffix else name
    numbered = (f"{by_ending}_{number}" for number in range(2, 10_000))
    return by_ending if by_ending not in taken else next(one for one in numbered if one not in taken)


def _name(text: str) -> str:
    made = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:NAME_CHARS].rstrip("_")
    return made if made[:1].isalpha() else f"script_{made}".rstrip("_")
