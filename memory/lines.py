"""Memory as lines of JSON, one record each: written out, read back with every fault told, and taken in.

    path.write_text("".join(as_lines(store.every())))
    records = from_lines(path.read_text().splitlines())
    taken = take_in(store, records)
    taken.differing     are there with another content, which stays unless `replace` is said

Vectors are not written: whoever takes the lines in makes them anew from the text.

What is not covered: who wrote the file. What it says about trust is as it stands there; see `foreign`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from memory.records import Record, Scope
from memory.store import Memory

MOST_FAULTS = 10
_BATCH = 500


@dataclass(frozen=True)
class Taken:
    """What became of the records that were taken in."""

    added: list[Record] = field(default_factory=list)
    same: list[Record] = field(default_factory=list)
    differing: list[Record] = field(default_factory=list)
    """Under the same id there is another content; it was kept, or replaced where that was wanted."""


def as_lines(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        yield record.model_dump_json(exclude_defaults=True) + "\n"


def from_lines(lines: Iterable[str]) -> list[Record]:
    """The records; empty lines are passed over. Raises `ValueError` with the first faults and their lines."""
    records: list[Record] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate(json.loads(line)))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            faults.append(f"line {number}: {'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}")
        except (ValueError, RecursionError) as exc:
            faults.append(f"line {number}: {exc}")
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise ValueError("\n".join(faults))
    return records


def foreign(record: Record) -> Record:
    """The record as somebody else may have written it: what it says is data of a file."""
    return record if record.trust == "web" else record.model_copy(update={"trust": "file"})


def take_in(memory: Memory, records: Sequence[Record], *, replace: bool = False) -> Taken:
    """Add what is not there. What is there with another content stays, unless `replace`."""
    taken = Taken()
    latest = {record.id: record for record in records}
    by_user: defaultdict[str, list[Record]] = defaultdict(list)
    for record in latest.values():
        by_user[record.scope.user].append(record)
    with memory.opened() as turn:
        for user, mine in by_user.items():
            for start in range(0, len(mine), _BATCH):
                _take_batch(turn, mine[start : start + _BATCH], Scope(user=user), taken, replace)
    return taken


def _take_batch(turn: Memory, batch: Sequence[Record], scope: Scope, taken: Taken, replace: bool) -> None:
    there = {record.id: record for record in turn.get([r.id for r in batch], scope, at="ever")}
    new = [record for record in batch if record.id not in there]
    known = [record for record in batch if record.id in there]
    differing = [record for record in known if record not in (there[record.id], foreign(there[record.id]))]
    turn.add([*new, *(differing if replace else ())])
    taken.added.extend(new)
    taken.differing.extend(differing)
    taken.same.extend(record for record in known if record not in differing)
