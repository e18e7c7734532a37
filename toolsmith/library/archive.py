"""Archives of tools to give away: a folder, or a zip file, with the library's layout.

    orch-tools.json              the tools it holds, each with the sha256 of its module
    count_words/v2/tool.py       the module
                  /tool.json     specification, cases, trial, hash and seal

An archive is foreign. Reading it runs nothing, looks only at the files above, up to a size, and compares
hashes and seals. `import_tool` keeps a tool only if its own trial passes here, in the sandbox, and records
the archive as its origin.

The words of the prompt that a tool was made for do not leave the library: `export` includes only the tool's
purpose.

Not covered: who made an archive. The hashes show that it arrived whole, not who sent it.
"""

import io
import itertools
import json
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.durable.files import read_regular
from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.errors import LibraryError, ToolNotBuilt
from toolsmith.library import Library, records
from toolsmith.spec import Need

MANIFEST = "orch-tools.json"
MAX_FILE = 2_000_000
MAX_ZIP = 16_000_000
"""Bytes: a list of all its files is made in memory."""
MAX_TOOLS = 200
MAX_TOTAL = 64_000_000
"""Bytes of all files as they are unpacked."""

UNREADABLE = (
    *(OSError, ValueError, EOFError, RuntimeError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What zipfile raises for a file that it cannot read; a name that is not UTF-8 is a `ValueError`."""
_FORMAT = 1
_PLACE = re.compile(r"([a-z][a-z0-9_]{0,59})/v([1-9][0-9]{0,5})/tool\.(?:py|json)")

Prove = Callable[[BuiltTool], tuple[Sequence[str], TrialReport | None]]
"""Checks and tries a tool: its faults, and the report if it was run."""


@dataclass(frozen=True)
class ImportedTool:
    """An imported tool, as the library has it now."""

    tool: BuiltTool
    new: bool
    """False if the library had the same tool already."""


# --- out


def export(tools: Sequence[BuiltTool], target: Path) -> Path:
    """Write tools into a new folder, or into a zip file if the name ends in `.zip`: all of them or nothing.

    Raises:
        LibraryError: the target exists, or cannot be written.
    """
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise LibraryError(f"{target} exists already.\nMove it away, or name another.")
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".orch-", dir=target.parent))
    except OSError as exc:
        raise LibraryError(f"{target} cannot be written: {exc}.") from exc
    try:
        folder = scratch / "tools"
        _lay_out(tools, folder)
        if target.suffix == ".zip":
            _zip(folder, scratch / "tools.zip").rename(target)
        else:
            folder.rename(target)
    except OSError as exc:
        raise LibraryError(f"{target} cannot be written: {exc}. Free space or rights?") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _lay_out(tools: Sequence[BuiltTool], folder: Path) -> None:
    folder.mkdir()
    for tool in tools:
        origin = Origin(need=Need(name=tool.name, purpose=tool.spec.purpose))
        place = folder / tool.name / f"v{tool.version}"
        own = tool.model_copy(update={"origin": origin})
        records.write(place, place.with_name(".scratch"), records.record_of(own), tool.source)
    rows = [{"name": tool.name, "version": tool.version, "sha256": tool.sha256} for tool in tools]
    text = json.dumps({"format": _FORMAT, "tools": rows}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _zip(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, path.relative_to(folder).as_posix())
    return file


# --- in


def read_archive(path: Path) -> tuple[BuiltTool, ...]:
    """The tools of a folder or a zip file, with hashes and seals compared. Nothing is run.

    Raises:
        LibraryError: it is not an archive of tools, or its hashes do not match.
    """
    with _unpacked(path) as folder:
        rows = _manifest(folder, path)
        return tuple(_tool(folder, path, *row) for row in rows)


def import_tool(
    tool: BuiltTool, library: Library, prove: Prove, *, source: str, beside: bool = False
) -> ImportedTool:
    """Prove a tool of an archive, and keep it as the next version of its name.

    Args:
        source: the archive, for its origin.
        beside: whether it may become the next and current version of a tool that exists and differs.

    Raises:
        LibraryError: the library has another tool of that name.
        ToolNotBuilt: its trial did not pass here, or it breaks rules.
    """
    if number := library.current_version(tool.name):
        known = library.version(tool.name, number)
        if (known.spec, known.suite, known.source) == (tool.spec, tool.suite, tool.source):
            return ImportedTool(known, new=False)
        if not beside:
            raise LibraryError(
                f"The library has another tool '{tool.name}' (v{number}).\n"
                "Import this one as its next, then current version, or remove the other one."
            )
    reasons, report = prove(tool)
    if report is None or not report.passed:
        raise ToolNotBuilt(tool.name, reasons)
    if library.current_version(tool.name) != number:
        raise LibraryError(f"The tool '{tool.name}' of the library changed meanwhile.\nImport it again.")
    # Its own account of where it comes from is a stranger's.
    origin = Origin(need=Need(name=tool.name, purpose=tool.spec.purpose), imported_from=source)
    return ImportedTool(library.keep(tool.model_copy(update={"trial": report, "origin": origin})), new=True)


def _manifest(folder: Path, path: Path) -> list[tuple[str, int, str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != _FORMAT:
            raise LibraryError(f"{path} has the format {manifest['format']}; this version reads {_FORMAT}.")
        rows = [(str(row["name"]), int(row["version"]), str(row["sha256"])) for row in manifest["tools"]]
    except (OSError, ValueError, OverflowError, LookupError, TypeError, RecursionError) as exc:
        raise LibraryError(
            f"{path} is not an archive of tools: {MANIFEST} cannot be read.\nMake one with `export`."
        ) from exc
    if not 0 < len(rows) <= MAX_TOOLS:
        raise LibraryError(f"{path} names {len(rows)} tools; 1 to {MAX_TOOLS} can be imported at once.")
    return rows


def _tool(folder: Path, path: Path, name: str, version: int, sha256: str) -> BuiltTool:
    if not _PLACE.fullmatch(f"{name}/v{version}/{records.MODULE}"):
        raise LibraryError(f"{path} names {name!r} v{version}, which cannot be a tool.")
    try:
        tool = records.read(folder / name / f"v{version}", name, version)
    except records.UnreadableVersion as exc:
        raise LibraryError(f"The tool '{name}' in {path} cannot be read: {exc}") from exc
    if tool.edited or tool.sha256 != sha256:
        raise LibraryError(
            f"The tool '{name}' in {path} was changed after it was exported: its hashes do not match.\n"
            "Get it again. To change a tool, edit it in a library, prove it there, and export it."
        )
    return tool


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A private folder with the files that may be in an archive."""
    with tempfile.TemporaryDirectory(prefix="orch-import-") as name:
        folder = Path(name)
        try:
            for place, content in _contents(path):
                file = folder / place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        except FileNotFoundError as exc:
            raise LibraryError(f"There is no {path}.") from exc
        except UNREADABLE as exc:
            raise LibraryError(f"{path} cannot be read as a folder or a zip file of tools: {exc}") from exc
        yield folder


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files that may be in an archive, at most as many as it may have tools, and `MAX_TOTAL` bytes."""
    files, left = _folder_files(path) if path.is_dir() else _zip_files(path), MAX_TOTAL
    for number, (place, content) in enumerate(files):
        if number > 2 * MAX_TOOLS:
            raise LibraryError(f"{path} has the files of more than {MAX_TOOLS} tools.")
        left -= len(content)
        if left < 0:
            raise LibraryError(f"{path} has more than {MAX_TOTAL:,} bytes of files, unpacked.")
        yield place, _bounded(content, place, MAX_FILE)


def _folder_files(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in itertools.chain([path / MANIFEST], path.glob("*/v*/tool.*")):
        place = file.relative_to(path).as_posix()
        # A link could point to any file of the importing user.
        is_link = any(
            one.is_symlink() for one in (file, *file.parents) if one.is_relative_to(path) and one != path
        )
        if _wanted(place) and file.is_file() and not is_link:
            yield place, read_regular(file, MAX_FILE + 1)


def _zip_files(path: Path) -> Iterator[tuple[str, bytes]]:
    content = _bounded(read_regular(path, MAX_ZIP + 1), str(path), MAX_ZIP)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            if _wanted(info.filename):
                with archive.open(info) as file:
                    yield info.filename, file.read(MAX_FILE + 1)


def _wanted(place: str) -> bool:
    return place == MANIFEST or bool(_PLACE.fullmatch(place))


def _bounded(content: bytes, place: str, limit: int) -> bytes:
    if len(content) > limit:
        raise LibraryError(f"{place} is larger than {limit:,} bytes, which is too large for a tool.")
    return content
