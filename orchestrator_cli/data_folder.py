"""The data folder and the user's own settings belong to the user alone.

Who can write there decides what `orch` does for the user: what a workspace is allowed, which tools are
proved, which programs run. So does who can write to a folder above it and put another in its place. Who can
read there sees every prompt and result. A relative path would let a workspace hold them.

Not covered: access lists, and members of the groups in `ADMINISTRATORS`.
"""

import grp
import os
import pwd
import shlex
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import AfterValidator

from orchestrator_cli.durable.places import links_in, ways_to
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.trust import shown_path

ADMINISTRATORS = ("root", "staff", "wheel", "admin", "sudo")
"""Groups that may write to folders of root's, such as /usr/local."""
_ALL_USERS = 2**32 - 1


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("say an absolute path: a relative one may lead into a workspace")
    return path


OwnFolder = Annotated[Path, AfterValidator(_absolute)]


def own_places(home: Path, prefect_home: Path | None, user_file: Path) -> tuple[Path, ...]:
    """What `orch` itself trusts, there or not, also when another data folder is set than the usual one.

    Links in these folders are named too, such as to roles that the user keeps elsewhere.
    """
    usual = platformdirs.user_data_path("orch"), platformdirs.user_config_path("orch")
    own = (home, (prefect_home or home) / "prefect", user_file, user_file.parent, *usual)
    return (
        *own,
        *dict.fromkeys(link for folder in (home, user_file.parent, *usual) for link in links_in(folder)),
    )


def check_absolute(folder: Path, variable: str) -> None:
    """Raise `ConfigError` if the folder that an environment variable names for settings is relative."""
    if not folder.is_absolute():
        raise ConfigError(
            f"The folder of your settings, {shown_path(folder)}, is a relative path.",
            f"Set an absolute path in {variable}: a workspace could hold a relative one.",
        )


def check_owned(path: Path) -> None:
    """Raise `ConfigError` if a file or folder belongs to another user but root, or others may write to it.

    Also if another may put something else in its place. One that is not there is no fault.
    """
    try:
        found = path.stat()
    except OSError:
        return
    _check_place(path)
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{shown_path(path)} belongs to another user, who could decide what orch does for you.",
            "Name a folder of your own in ORCH_HOME, or make yourself the owner.",
        )
    if _others_may_write(found):
        raise ConfigError(
            f"Other users may write to {shown_path(path)}, and so decide what orch does for you.",
            f"Look at what is there, then: chmod go-w {shlex.quote(str(path))}",
        )


def _check_place(path: Path) -> None:
    if why := exchangeable(path):
        raise ConfigError(
            f"Other users may put something else in the place of {shown_path(path)}, and so decide what orch "
            f"does for you: {why}.",
            "Name a folder below your home folder in ORCH_HOME, or take that right away (chmod go-w, chown).",
        )


def exchangeable(path: Path) -> str:
    """Why another user, but root, may exchange what a path leads to; empty if none may.

    That is who owns a folder above it or may write there. If that folder has the sticky bit, as /tmp does, it
    is who owns the next folder on the way. The ways of links count too.
    """
    trusted = {os.geteuid(), 0, *_unknown_owner()}
    for way in ways_to(path.absolute()):
        for folder, name in zip(reversed(way.parents), way.parts[1:], strict=True):
            with suppress(OSError):
                above = folder.stat()
                if above.st_uid not in trusted:
                    return f"{shown_path(folder)} belongs to another user"
                if not _others_may_write(above) or (above.st_uid == 0 and _is_of_administrators(above)):
                    continue
                if not above.st_mode & stat.S_ISVTX:
                    return f"they may write to {shown_path(folder)}"
                if (folder / name).lstat().st_uid not in trusted:
                    return f"{shown_path(folder / name)} belongs to another user"
    return ""


def _others_may_write(found: os.stat_result) -> bool:
    if found.st_mode & 0o002:
        return True
    return bool(found.st_mode & 0o020) and not _is_private(found.st_gid, found.st_uid)


def _is_of_administrators(found: os.stat_result) -> bool:
    with suppress(KeyError):
        return not found.st_mode & 0o002 and grp.getgrgid(found.st_gid).gr_name in ADMINISTRATORS
    return False


@cache
def _unknown_owner() -> frozenset[int]:
    """The owner shown in a user namespace for files of users outside of it, among them the real root."""
    with suppress(OSError, ValueError):
        rows = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        if sum(int(row.split()[2]) for row in rows) < _ALL_USERS:
            return frozenset({int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))})
    return frozenset()


def _is_private(group: int, user: int) -> bool:
    """Whether a group is that of one user alone. Systems that make such groups use a umask of 002."""
    try:
        owner, found = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return user != 0 and found.gr_name == owner.pw_name and set(found.gr_mem) <= {owner.pw_name}


def open_data_folder(home: Path) -> None:
    """Make the data folder if it is missing, and readable by its owner only. Raises `ConfigError`."""
    check_owned(home)
    _check_place(home)
    with suppress(OSError):  # a command that has to write there says why it cannot
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if home.is_dir() and home.stat().st_uid == os.geteuid():
            home.chmod(0o700)
