"""Folders to give away: written whole, or not at all."""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from toolsmith.errors import LibraryError


def write_new_folder(place: Path, files: Mapping[str, str]) -> Path:
    """Make a folder with these texts, by their paths in it.

    Raises:
        LibraryError: something is there already, or it cannot be written.
    """
    taken = f"{place} is there already.\nMove it away, or name another folder."
    scratch = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
    try:
        if os.path.lexists(place):
            raise LibraryError(taken)
        scratch.mkdir(parents=True)
        for name, text in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(text, encoding="utf-8", newline="")
        scratch.rename(place)
    except OSError as exc:
        if os.path.lexists(place):
            raise LibraryError(taken) from exc
        raise LibraryError(f"{place} cannot be written: {exc.strerror}.\nName another folder.") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place
