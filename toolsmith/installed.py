"""What an installer has put into a folder: whether it is whole, unchanged, and how it is imported.

Nothing of it is imported or run. `take` is made right after an installation, when every file has to be as
its package's own RECORD says; `change` compares with that later: a file that differs, is gone, or is new.

Not covered: somebody who changes a file and repairs what was taken. It notices, it does not defend.
"""

import base64
import hashlib
import inspect
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path


class Unsound(Exception):
    """A folder of packages is not what it has to be; the text says in what, without the folder's name."""


def take(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path in the folder. Raises `Unsound`, `OSError`."""
    found = dict(_hashes(folder))
    for package in distributions(path=[str(folder)]):
        for file in package.files or ():
            if file.hash is not None and found.get(str(file)) != _hexadecimal(file.hash.value):
                raise Unsound(f"the file {file} of {package.name} is not the one that was packed")
    return found


def change(folder: Path, taken: Mapping[str, str]) -> str:
    """In what a folder differs from what was taken; empty where it does not."""
    try:
        found = dict(_hashes(folder))
    except Unsound as exc:
        return str(exc)
    except OSError as exc:
        return f"it cannot be read: {exc.strerror}"
    if lacking := sorted(taken.keys() - found.keys()):
        return f"the file {lacking[0]} is gone"
    if strange := sorted(found.keys() - taken.keys()):
        return f"the file {strange[0]} was added"
    changed = sorted(path for path, value in taken.items() if found[path] != value)
    return f"the file {changed[0]} was changed" if changed else ""


def stamp(folder: Path) -> str:
    """What the system says of every file without reading it. While it is the same, nothing was changed.

    It is good for the process that took it: the number of a file and its times say nothing elsewhere.
    """
    told = hashlib.sha256()
    for place, _, files in os.walk(folder, onerror=_raise):
        for name in sorted(files):
            path = Path(place, name)
            seen = path.lstat()
            told.update(
                f"{path}\0{seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}\n".encode()
            )
    return told.hexdigest()


def modules(folder: Path) -> frozenset[str]:
    """The names that the packages in a folder are imported by, at their top."""
    packages = distributions(path=[str(folder)])
    names = {name for package in packages for name in _modules(package)}
    return frozenset(name for name in names if name.isidentifier())


def _modules(package: Distribution) -> Iterator[str]:
    for file in package.files or ():
        if len(file.parts) > 1 and file.suffix in (".py", ".so", ".pyd"):
            yield file.parts[0]
        elif len(file.parts) == 1 and (name := inspect.getmodulename(file.name)):
            yield name


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise Unsound(f"{path.relative_to(folder)} is neither a file nor a folder")
        for name in files:
            path = Path(place, name)
            with path.open("rb") as content:
                yield path.relative_to(folder).as_posix(), hashlib.file_digest(content, "sha256").hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _hexadecimal(value: str) -> str:
    """A hash as RECORD writes it: base64 without its padding."""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
