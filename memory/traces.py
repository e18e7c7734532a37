"""Whether a text is anywhere below a folder still, by the bytes that lie there.

    left = traces(home, ["the text that was forgotten"])
    left.found          files that hold it, in one of the forms in which our own files keep a text
    left.files          how many files were looked through, and left.bytes how many bytes
    left.unread         files that could not be read
    left.compressed     files whose bytes do not show what is in them

A file is looked through as it lies on the disk, also one that a crash left behind or that memory has put
aside. Deleting (`EdgeStore.delete`) leaves nothing of a record in the shard, which is rebuilt from what
remains; this function is how it is shown to whoever asked for it.

What is not covered: the engine compresses what it keeps of a record, so that a long text which repeats itself
can lie there unseen; `every` of a store gives the records themselves. Free space of the disk, copies made by
others, and what a model's provider was sent.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COMPRESSED = {".gz", ".zip", ".zst", ".xz", ".bz2", ".7z", ".whl"}


@dataclass(frozen=True)
class Traces:
    files: int = 0
    bytes: int = 0
    found: tuple[Path, ...] = ()
    unread: tuple[Path, ...] = ()
    compressed: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.found)


def traces(folder: Path, texts: Iterable[str]) -> Traces:
    """Look for the texts in every file below the folder. An empty text is a `ValueError`."""
    forms = [form for text in texts for form in _forms(text)]
    files = size = 0
    found: list[Path] = []
    unread: list[Path] = []
    compressed: list[Path] = []
    for path in _files(folder, unread):
        try:
            length, holds = _look(path, forms)
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
    return Traces(files, size, tuple(found), tuple(unread), tuple(compressed))


def _forms(text: str) -> set[bytes]:
    """The text as it is, and as it stands within JSON with and without signs beyond ASCII."""
    if not text.strip():
        raise ValueError("an empty text is in every file; say what to look for")
    escaped = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return {form.encode("utf-8", "surrogatepass") for form in (text, *escaped)}


def _files(folder: Path, unread: list[Path]) -> Iterator[Path]:
    """Every file of its own, in a fixed order; links lead to what is looked through elsewhere or not ours."""

    def told(fault: OSError) -> None:
        unread.append(Path(fault.filename))

    for parent, folders, names in os.walk(folder, onerror=told):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _look(path: Path, forms: Iterable[bytes]) -> tuple[int, bool]:
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length == 0:
            return 0, False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return length, any(content.find(form) >= 0 for form in forms)
