"""One version of a tool as two files in a folder, and how a change to them is noticed. See `library`.

`tool.json` holds the hash of `tool.py`, and a seal: a hash over all the rest of the record. So the module
has one name for ever, its sha256, which stands in the record, in the journal and in the log of every run
that used it; and neither file can be changed by hand without that being seen.

Not covered: an edit that also repairs hash and seal. They notice, they do not defend.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator_cli.durable.files import sync_folder, write_synced
from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.proof.cases import Suite
from toolsmith.proof.checker import functions
from toolsmith.spec import ToolSpec

FORMAT = 2
"""In the format 1 the cases stood in the specification, and there were no examples and no properties."""
MODULE, RECORD = "tool.py", "tool.json"


class Unreadable(Exception):
    """The folder holds no version of a tool; the text says why, in one line."""


def read(folder: Path, name: str, version: int) -> BuiltTool:
    """The version in a folder. Raises `Unreadable`."""
    try:
        source = (folder / MODULE).read_bytes()
        record = json.loads((folder / RECORD).read_bytes())
        if (record["name"], record["version"]) != (name, version):
            raise ValueError(f"tool.json says that it is '{record['name']}' v{record['version']}")
        if record["spec"]["name"] != name:
            raise ValueError(f"its specification is that of '{record['spec']['name']}'")
        edited = record.get("sha256") != sha256(source) or record.get("seal") != seal(record)
        return _built(record, source.decode(), edited=edited)
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        SyntaxError,
        ValidationError,
    ) as exc:
        raise Unreadable(str(exc).splitlines()[0] if str(exc) else type(exc).__name__) from exc


def fingerprint(folder: Path) -> str:
    """A hash over both files as they are now, whatever they hold."""
    parts = []
    for name in (MODULE, RECORD):
        try:
            parts.append(sha256((folder / name).read_bytes()))
        except OSError:
            parts.append("")
    return sha256("\n".join(parts).encode())


def record_of(tool: BuiltTool) -> dict[str, Any]:
    """What `tool.json` holds of a tool, without the seal."""
    return {
        "format": FORMAT,
        "name": tool.name,
        "version": tool.version,
        "created": tool.created.isoformat(),
        "sha256": tool.sha256,
        "origin": tool.origin.model_dump(mode="json"),
        "trial": tool.trial.model_dump(mode="json"),
        "spec": tool.spec.model_dump(mode="json"),
        **tool.suite.model_dump(mode="json"),
    }


def write(place: Path, scratch: Path, record: dict[str, Any], source: str) -> None:
    """Write a version by way of `scratch`, beside its place: it is there whole or not at all, for good."""
    text = json.dumps({**record, "seal": seal(record)}, ensure_ascii=False, indent=2) + "\n"
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch.mkdir()
    write_synced(scratch / MODULE, source)
    write_synced(scratch / RECORD, text)
    sync_folder(scratch)
    if place.exists():
        shutil.rmtree(place)
    scratch.rename(place)
    sync_folder(place.parent)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seal(record: dict[str, Any]) -> str:
    """A hash over the whole record, so that an edit of the cases is noticed as an edit of the code is."""
    told = {key: value for key, value in record.items() if key != "seal"}
    return sha256(json.dumps(told, ensure_ascii=False, sort_keys=True).encode())


def _built(record: dict[str, Any], source: str, *, edited: bool) -> BuiltTool:
    if record["format"] not in (1, FORMAT):
        raise ValueError(f"tool.json has the format {record['format']}, and this version reads {FORMAT}")
    spec = dict(record["spec"])
    cases = spec.pop("cases") if record["format"] == 1 else record["cases"]
    return BuiltTool(
        name=record["name"],
        version=record["version"],
        spec=ToolSpec.model_validate(spec),
        suite=Suite.model_validate({"cases": cases, "properties": record.get("properties", ())}),
        source=source,
        sha256=sha256(source.encode()),
        functions=() if edited else functions(source),
        trial=TrialReport.model_validate(record["trial"]),
        origin=Origin.model_validate(record["origin"]),
        created=record["created"],
        edited=edited,
    )
