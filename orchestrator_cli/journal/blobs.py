"""Large values of a journal, kept beside it by the hash of their content.

    runs/RUN/blobs/SHA256        a text as it is, any other value as JSON that a person can read

In the line of its event a value's place is taken by a text that names the file, and the line
says under `large` which places these are, so that no value can pass for another's name.
Contents are on the disk before the line that names them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from orchestrator_cli.durable.files import make_folders, write_atomic

LARGE = 64 << 10
"""Bytes of JSON above which a value is kept apart."""

Place = tuple[str | int, ...]


class BlobMissing(Exception):
    """A content that a journal names is gone or damaged."""


class Blobs:
    """The contents beside one journal; the folder is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take_out(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with what is large in its `data` kept apart. Raises `OSError`."""
        large: list[dict[str, Any]] = []
        data = {
            name: value if name == "kind" else self._smaller(value, ("data", name), large)
            for name, value in row["data"].items()
        }
        return {**row, "data": data, "large": large} if large else row

    def put_back(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it was. Raises `BlobMissing`."""
        # What lies within another value was taken out before it.
        for one in reversed(row.pop("large", ())):
            *way, last = one["at"]
            around: Any = row
            for step in way:
                around = around[step]
            text = self._content(one["sha256"])
            around[last] = text if one["form"] == "text" else json.loads(text)
        return row

    def _smaller(self, value: Any, place: Place, large: list[dict[str, Any]]) -> Any:
        if isinstance(value, dict):
            value = {key: self._smaller(item, (*place, key), large) for key, item in value.items()}
        elif isinstance(value, list):
            value = [self._smaller(item, (*place, n), large) for n, item in enumerate(value)]
        size = len(value) if isinstance(value, str) else len(json.dumps(value))
        if size <= LARGE:
            return value
        form = "text" if isinstance(value, str) else "json"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        digest = self.keep(text.encode())
        large.append({"at": place, "sha256": digest, "form": form})
        return f"(see blobs/{digest})"

    def keep(self, content: bytes) -> str:
        """Keep a content, and return its hash. Raises `OSError`."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest
        if path.exists():
            return digest
        make_folders(self._folder, 0o700)
        write_atomic(path, content)
        return digest

    def _content(self, digest: str) -> str:
        path = self._folder / digest
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise BlobMissing(f"{path}, a part of the run's journal, cannot be read: {exc.strerror}") from exc
        if hashlib.sha256(content).hexdigest() != digest:
            raise BlobMissing(f"{path}, a part of the run's journal, is damaged")
        return content.decode()
