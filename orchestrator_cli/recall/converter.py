"""Converts foreign files in a sandbox: documents to Markdown, images to small ones without metadata.

It also takes files out of others, such as ZIP files.

The worker sees one file at a time, cannot write, has no network, and may use a minute and a gigabyte of
memory for each file, or each part of a long text; a file that needs more is refused. Without a sandbox
nothing is converted.

Not covered: a file that takes over the worker could falsify the files that are read after it.
"""

import base64
import re
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self

from memory.knowledge.documents import UnreadableDocument
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.settings import Settings
from toolsmith.sandbox import Limits, SandboxError, SandboxUnavailable, choose_backend
from toolsmith.sandbox.session import SandboxSession

LIMITS = Limits(wall_s=60.0, memory_mb=1024, processes=8, disk_mb=64)
REASON_CHARS = 200
MAX_REPLIES = 250
"""For the text of one document, which comes in parts."""

_FILE = "document"
_LIBRARY = re.compile(r"\A(?:[A-Z]\w*|error): ")
"""The name of a library's exception, which means nothing to the user."""


def source_of(module: str) -> str:
    """The source of a module of `memory.knowledge`, which is run in a sandbox."""
    return resources.files("memory.knowledge").joinpath(f"{module}.py").read_text(encoding="utf-8")


class Converter:
    """`read_document` and `read_image` in a sandbox, which starts with the first file.

    A context manager: the sandbox ends with it.
    """

    def __init__(self, settings: Settings, limits: Limits = LIMITS) -> None:
        self._wanted = None if settings.sandbox == "auto" else settings.sandbox
        self._verdicts = settings.sandbox_verdicts
        self._limits = limits
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._session: SandboxSession | None = None
        self._unavailable = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __call__(self, data: bytes, form: str) -> Mapping[str, Any]:
        """The text of a document, as `formats.read_document` gives it. Raises `UnreadableDocument`."""
        more = self._read("formats", "read_document", data, form=form)
        reply = {**more, **{name: list(_rows(more.get(name))) for name in ("parts", "unread")}}
        for _ in range(MAX_REPLIES):
            if more.get("more") is not True:
                return reply
            more = self._read("formats", "read_on", None)
            for name in ("parts", "unread"):
                reply[name] += _rows(more.get(name))
        raise UnreadableDocument("its text does not end")

    def files(
        self, data: bytes, form: str, most_files: int, most_bytes: int
    ) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Names and contents of the files within a file, and in words those that are not read."""
        reply = self._read(
            "containers", "list_files", data, form=form, most_files=most_files, most_bytes=most_bytes
        )
        found, unread = list[tuple[str, bytes]](), [str(why) for why in _rows(reply.get("unread"))]
        for row in _rows(reply.get("files")):
            match row:
                case [int() as number, str() as name, int() as size] if size <= most_bytes:
                    try:
                        found.append((name, self._file(form, number, size)))
                    except UnreadableDocument as exc:
                        unread.append(f"{name} ({exc})")
                    most_bytes -= size
        return found[:most_files], unread

    def _file(self, form: str, number: int, size: int) -> bytes:
        """One of the files within the file that was listed."""
        data = b""
        while len(data) < size:
            reply = self._read(
                "containers", "read_file", None, path=_FILE, form=form, number=number, start=len(data)
            )
            piece = base64.b64decode(str(reply.get("data") or ""))
            if not piece:
                raise UnreadableDocument("it is shorter than it should be")
            data += piece
        return data[:size]

    def image(self, data: bytes) -> Mapping[str, Any]:
        """An image, as `pictures.read_image` gives it. Raises `UnreadableDocument`."""
        return self._read("pictures", "read_image", data)

    def pixels(self, data: bytes, width: int, height: int) -> Mapping[str, Any]:
        """The pixels of an image, as `pictures.read_pixels` gives them. Raises `UnreadableDocument`."""
        return self._read("pictures", "read_pixels", data, width=width, height=height)

    def _read(
        self, module: str, function: str, data: bytes | None, **arguments: str | int
    ) -> Mapping[str, Any]:
        if self._unavailable:
            raise UnreadableDocument(self._unavailable)
        if data is not None:
            arguments["path"] = _FILE
        try:
            found = self._called(module, function, data, arguments)
        except SandboxUnavailable as exc:
            self._unavailable = f"no sandbox works here: {_reason(exc)}"
            raise UnreadableDocument(self._unavailable) from exc
        except SandboxError as exc:
            raise UnreadableDocument(self._message(exc)) from exc
        if not isinstance(found, dict):
            raise UnreadableDocument("it could not be converted")
        return found

    def _called(self, module: str, function: str, data: bytes | None, arguments: dict[str, str | int]) -> Any:
        if self._session is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="orch-document-")
            self._session = SandboxSession(
                Path(self._folder.name),
                limits=self._limits,
                backend=choose_backend(self._wanted, self._verdicts),
                writable=False,
            )
        if data is not None:
            Path(self._folder.name, _FILE).write_bytes(data)
        # The worker's current folder is the document's folder, whose path differs in the sandbox.
        return self._session.call(source_of(module), function, arguments).value

    def _message(self, exc: SandboxError) -> str:
        reason = _reason(exc)
        if reason.startswith("TimeoutError"):
            return f"it takes longer than {self._limits.wall_s:g} s to read"
        if reason.startswith("MemoryError"):
            return f"it takes more than {self._limits.memory_mb} MB of memory to read"
        return f"it is damaged, or not what its name says ({reason})" if _LIBRARY.match(reason) else reason


def _rows(found: object) -> list[Any]:
    """What should be a list in a reply, which is untrusted."""
    return found if isinstance(found, list) else []


def _reason(exc: Exception) -> str:
    """The first line, without the exception's name if the message is plain text."""
    line = str(exc).partition("\n")[0].removeprefix("ValueError: ")
    line = line.removeprefix("Exception: ")  # what a library's own errors are kinds of
    return truncate(line, REASON_CHARS)
