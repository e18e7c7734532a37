"""The instructions that a project has written down for agents: `AGENTS.md`, `CLAUDE.md` or `GEMINI.md`.

One file of each folder counts, the first of these names: from the root of the repository down to the
workspace, and in folders of the workspace for the work there. A link is followed if it leads to a file of the
repository. Only the beginning of a file is read, and only UTF-8 text is taken.

Not covered: folders deeper than `DEPTH`, and what is not among the first `ENTRIES` names, so that a large
workspace delays no run.
"""

import codecs
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.durable.encodings import is_utf8
from orchestrator_cli.durable.places import repository_around
from orchestrator_cli.tools.files import read_beginning
from orchestrator_cli.tools.own_files import PROGRAMS_OWN
from orchestrator_cli.values import Guidance, InstructionText

NAMES = ("AGENTS.md", "CLAUDE.md", "GEMINI.md")
FILE_BYTES = 128 << 10
"""Of a longer file, the rest is not read."""
BYTES_A_TOKEN = 3
DEPTH, ENTRIES, DEEPER_FILES = 3, 4_000, 20
SKIPPED = PROGRAMS_OWN | {"env", "vendor", "dist", "build", "target"}


class InstructionFile(NamedTuple):
    """A file of instructions as it was found."""

    path: str
    """From the workspace."""
    folder: str
    """The folder of the workspace whose work it is about; empty if it is about all of it."""
    text: str
    unread: int
    """Bytes after the text."""
    sha256: str
    """Of what was read."""


class Found(NamedTuple):
    files: tuple[InstructionFile, ...]
    """From the outermost folder to the deepest."""
    faults: tuple[str, ...]
    """Why others are not used."""


def find_instructions(root: Path) -> Found:
    """Those of a workspace, resolved."""
    base = repository_around(root) or root
    files, faults, seen = [], [], set()
    for path, folder in (*_above(base, root), *islice(_below(root), DEEPER_FILES)):
        try:
            check_name(path)
            real = resolved_within(base, root / path)
            if real not in seen and (file := _read(base, real, path, folder)).text:
                files.append(file)
            seen.add(real)
        except (OSError, ValueError) as exc:
            faults.append(f"{path}: {reason(exc)}")
    return Found(tuple(files), tuple(faults))


def shown_instructions(files: Sequence[InstructionFile], tokens: int) -> tuple[InstructionText, ...]:
    """What models read, in about `tokens`."""
    whole = [
        InstructionText(path=file.path, folder=file.folder, text=file.text, left_out=file.unread)
        for file in files
    ]
    return _cut(whole, tokens)


def fitting(guidance: Guidance, context_tokens: int | None) -> Guidance:
    """The same for a model with this context, of which instructions take at most a quarter."""
    if context_tokens is None:
        return guidance
    return guidance.model_copy(update={"files": _cut(guidance.files, context_tokens // 4)})


def _cut(texts: Sequence[InstructionText], tokens: int) -> tuple[InstructionText, ...]:
    """Those nearest to the workspace are cut last."""
    left, shown = tokens * BYTES_A_TOKEN, {}
    for one in sorted(texts, key=lambda one: (bool(one.folder), one.path.count("/"))):
        size = len(one.text.encode())
        kept = one.text.encode()[:left].decode(errors="ignore")
        left_out = size - len(kept.encode())
        left -= size - left_out
        shown[one.path] = one.model_copy(update={"text": kept, "left_out": one.left_out + left_out})
    return tuple(shown[one.path] for one in texts)


# --- where they are


def folders_down(base: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """The folders from the repository's to the workspace, each with its path from the workspace."""
    steps = len(root.relative_to(base).parts)
    for up in range(steps, -1, -1):
        yield (root, *root.parents)[up], "../" * up


def _above(base: Path, root: Path) -> Iterator[tuple[str, str]]:
    for folder, path in folders_down(base, root):
        if name := next((name for name in NAMES if os.path.lexists(folder / name)), ""):
            yield f"{path}{name}", ""


def _below(root: Path) -> Iterator[tuple[str, str]]:
    """Those in folders of the workspace with these folders, the nearest first."""
    left, seen = deque([("", 0)]), 0
    while left and seen < ENTRIES:
        folder, depth = left.popleft()
        names, below = set[str](), []
        with suppress(OSError), os.scandir(root / folder) as entries:
            for entry in islice(entries, ENTRIES - seen):
                seen += 1
                if entry.name in NAMES:
                    names.add(entry.name)
                elif depth < DEPTH and _is_searched(entry):
                    below.append((f"{folder}/{entry.name}".strip("/"), depth + 1))
        if folder and names:
            yield f"{folder}/{min(names, key=NAMES.index)}", folder
        left += sorted(below)


def _is_searched(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".") or entry.name in SKIPPED
    return not hidden and entry.is_dir(follow_symlinks=False)


# --- how they are read


def check_name(path: str) -> None:
    """Raise `ValueError` if a path is not UTF-8: no answer and no journal can name it."""
    if not is_utf8(path):
        raise ValueError("its name is not UTF-8")


def resolved_within(base: Path, path: Path) -> Path:
    """Where a path leads. Raises `ValueError` if that is outside of `base`, and `OSError`."""
    try:
        real = path.resolve()
    except RuntimeError:
        raise ValueError("it is a link to itself") from None
    if not real.is_relative_to(base):
        raise ValueError(f"it is a link that leads out of {base}")
    return real


def _read(base: Path, real: Path, path: str, folder: str) -> InstructionFile:
    data = read_beginning(base, real.relative_to(base).as_posix(), FILE_BYTES)
    unread = max(0, real.stat().st_size - len(data))
    text = text_of(data, is_whole=not unread).strip()
    return InstructionFile(path, folder, text, unread, hashlib.sha256(data).hexdigest())


def text_of(data: bytes, *, is_whole: bool = True) -> str:
    """UTF-8, with or without a mark at its beginning. Raises `ValueError` for anything else."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError("it is not UTF-8 text")
    return text


def reason(exc: OSError | ValueError) -> str:
    """Why a file is not used."""
    return (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
