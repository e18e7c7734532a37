"""A folder as scripts: which of its files are some, and how each is called. Nothing of it is run or imported.

Only the files of the folder itself are looked at, not those of folders in it. A file is left out, with the
reason, if others could change it, if it is a link, or if it cannot be called.

Not covered: access lists, and what a script does.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.admin.scripts.calls import ScriptCall
from orchestrator_cli.admin.scripts.python_calls import read_python
from orchestrator_cli.admin.scripts.text_calls import leading_comment, text_calls
from orchestrator_cli.data_folder import check_owned
from orchestrator_cli.durable.encodings import encoding_of, is_utf8
from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.errors import ConfigError

MOST_FILES = 500
MOST_BYTES = 512 * 1024
"""A larger script is not read."""
PROGRAMS = {
    ".py": ("python3",),
    ".sh": ("sh",),
    ".bash": ("bash",),
    ".zsh": ("zsh",),
    ".js": ("node",),
    ".mjs": ("node",),
    ".cjs": ("node",),
    ".rb": ("ruby",),
    ".pl": ("perl",),
    ".php": ("php",),
    ".lua": ("lua",),
    ".r": ("Rscript",),
}
_SHELLS = {"sh": ".sh", "dash": ".sh", "ash": ".sh", "bash": ".bash", "zsh": ".zsh", "ksh": ".sh"}
_INTERPRETERS = _SHELLS | {"python": ".py", "python3": ".py", "node": ".js", "ruby": ".rb", "perl": ".pl"}


@dataclass(frozen=True)
class Script:
    """A file that can be run, and the ways to call it."""

    path: Path
    """Absolute."""
    program: tuple[str, ...]
    """What runs it; empty if it runs by itself."""
    about: str
    """What the whole file says of itself."""
    calls: tuple[ScriptCall, ...]

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.program, str(self.path))


@dataclass(frozen=True)
class LeftOut:
    """A file that is not proposed."""

    path: Path
    why: str


def read_scripts(folder: Path) -> Iterator[Script | LeftOut]:
    """The scripts of a folder, an absolute path, in the order of their names.

    Raises `ConfigError` if another user could put scripts there, and `OSError`.
    """
    check_owned(folder)
    for above in folder.parents:
        held = above.stat()
        is_open = held.st_mode & 0o002 and not held.st_mode & stat.S_ISVTX
        if is_open or held.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                f"Other users may write to {above}, and so put another folder in the place of {folder}.",
                "Move the scripts to a folder of yours.",
            )
    names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    for name in names[:MOST_FILES]:
        if (found := _read(folder / name)) is not None:
            yield found
    if len(names) > MOST_FILES:
        yield LeftOut(folder, f"it has {len(names):,} files, of which the first {MOST_FILES} were read")


def _read(path: Path) -> Script | LeftOut | None:
    """A file as a script; None for what is none."""
    if not is_utf8(str(path)):
        return LeftOut(path, "its name is not UTF-8")
    if path.is_symlink():
        target = path.resolve()
        if target.is_dir() or (not target.is_file() and target.suffix not in PROGRAMS):
            return None
        where = "" if target.parent == path.parent else ", out of the folder"
        return LeftOut(path, f"it is a link to {target}{where}")
    if not path.is_file():
        return None
    is_executable = os.access(path, os.X_OK)
    try:
        content = read_regular(path, MOST_BYTES + 1)
    except OSError as exc:
        return LeftOut(path, f"it cannot be read: {exc.strerror}") if path.suffix in PROGRAMS else None
    shebang = _shebang(content)
    ending = path.suffix.lower()
    if not shebang and ending not in PROGRAMS and not (is_executable and content.startswith(b"\x7fELF")):
        return None
    try:
        check_owned(path)
    except ConfigError as exc:
        return LeftOut(path, exc.message)
    if content.startswith(b"\x7fELF"):
        return Script(path, (), "", (ScriptCall(),))
    if len(content) > MOST_BYTES:
        return LeftOut(path, f"it is larger than {MOST_BYTES // 1024} KiB")
    return _script(path, content, shebang, ending, is_executable=is_executable)


def _script(
    path: Path, content: bytes, shebang: tuple[str, ...], ending: str, *, is_executable: bool
) -> Script | LeftOut:
    try:
        source = encoding_of(content, is_whole=True).decode(content).replace("\r\n", "\n")
    except ValueError:
        return LeftOut(path, "it is not text")
    language = next((_INTERPRETERS[n] for part in shebang if (n := Path(part).name) in _INTERPRETERS), ending)
    program = () if shebang and is_executable else shebang or PROGRAMS.get(ending, ())
    if ending == ".py" and not shebang and "\n# /// script" in f"\n{source}":
        program = ("uv", "run", "--script")  # it names the packages that it needs
    try:
        if language == ".py":
            about, only_defines, calls = read_python(source)
            if only_defines and not is_executable:
                return LeftOut(path, "it only defines things, for other files to import")
        else:
            about, calls = leading_comment(source, language), text_calls(source, language, path.name)
    except SyntaxError as exc:
        return LeftOut(path, f"it is not Python that can be read: {exc.msg}, line {exc.lineno or 0}")
    return Script(path, program, about, tuple(calls))


def _shebang(content: bytes) -> tuple[str, ...]:
    """The words of a first line `#!…`; empty without one, or with a program that is no whole path."""
    line = content[:300].partition(b"\n")[0]
    if not line.startswith(b"#!"):
        return ()
    try:
        words = shlex.split(line[2:].decode().strip())
    except ValueError:
        return ()
    if len(words) > 1 and Path(words[0]).name == "env" and words[1] == "-S":
        del words[1]
    return tuple(words) if words and words[0].startswith("/") else ()
