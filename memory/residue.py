"""Checks whether a text is still on the disk, in the bytes of the files below a folder.

    residue = find_residue(home, ["the forgotten text"])
    residue.found         # files that contain it, in one of the encodings in which our own files keep a text
    residue.files         # how many files were searched, and residue.bytes how many bytes
    residue.unread        # files that could not be read
    residue.compressed    # files whose bytes do not show their contents

All files are searched, including those that a crash left behind or that memory put aside. Deleting
(`EdgeStore.delete`) leaves nothing of a record in the shard, because the shard is rebuilt; this module proves
it to the user.

What is not covered: the engine compresses what it keeps of a record, so a long, repetitive text can be
present without being found; `scan` of a store returns the records themselves. Free space of the disk, copies
made by others, and what was sent to a model's provider.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COMPRESSED = {".gz", ".zip", ".zst", ".xz", ".bz2", ".7z", ".whl"}


@dataclass(frozen=True)
class Residue:
    files: int = 0
    bytes: int = 0
    found: tuple[Path, ...] = ()
    unread: tuple[Path, ...] = ()
    compressed: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.found)


def find_residue(folder: Path, texts: Iterable[str]) -> Residue:
    """Search every file below the folder for the texts. Raises `ValueError` for an empty text."""
    needles = [needle for text in texts for needle in _encodings(text)]
    files = size = 0
    found: list[Path] = []
    unread: list[Path] = []
    compressed: list[Path] = []
    for path in _files(folder, unread):
        try:
            length, holds = _search(path, needles)
        except FileNotFoundError:
            continue
        except OSError:
            unread.append(path)
            continue
        files, size = files + 1, size + length
        if holds:
            found.append(path)
        if path.suffix.casefold() in COMPRESSED:
            compressed.append(path)
    return Residue(files, size, tuple(found), tuple(unread), tuple(compressed))


def _encodings(text: str) -> set[bytes]:
    """The text in UTF-8: plain, and escaped as in JSON, both with and without non-ASCII characters."""
    if not text.strip():
        raise ValueError("an empty text is in every file; say what to look for")
    escaped = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return {form.encode("utf-8", "surrogatepass") for form in (text, *escaped)}


def _files(folder: Path, unread: list[Path]) -> Iterator[Path]:
    """Every regular file in a fixed order, without symbolic links; adds to `unread` what cannot be listed."""

    def on_error(fault: OSError) -> None:
        unread.append(Path(fault.filename))

    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _search(path: Path, needles: Iterable[bytes]) -> tuple[int, bool]:
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length == 0:
            return 0, False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return length, any(content.find(needle) >= 0 for needle in needles)
