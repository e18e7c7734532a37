"""Whether a command is to be run by a resident, and whether it may start one. A person waits for this."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.resident.rights import has_given_up, rights

NAME = "orch.toml"
MODES = ("auto", "never", "always")
MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
"""Files that Docker, Podman, and systemd for other engines leave in a container."""
VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")


class Wanted(NamedTuple):
    use: bool
    """Whether a resident that is there may run the command."""
    start: bool
    """Whether one may be started for the commands after it."""


def wanted() -> Wanted:
    """By `ORCH_RESIDENT`, else by the user's own orch.toml, else by what is around the command.

    There is none for a command that can gain no rights: one that has more could do its work.
    """
    if has_given_up(rights()):
        return Wanted(False, False)
    mode = os.environ.get("ORCH_RESIDENT") or _mode_of_user()
    if mode == "always":
        return Wanted(True, True)
    if mode != "auto" or os.environ.get("CI") or _is_another_user() or _is_in_container():
        return Wanted(False, False)
    return Wanted(True, _has_terminal())


def user_folder(variable: str, below: str) -> Path:
    """The user's own folder for settings or data, without `platformdirs`, which takes a third of the time."""
    if home := os.environ.get("ORCH_HOME"):
        return Path(home)
    if sys.platform == "linux":
        given = os.environ.get(variable, "")
        return Path(given if given.strip() else Path("~", below).expanduser(), "orch")
    import platformdirs

    found = platformdirs.user_config_path if variable == "XDG_CONFIG_HOME" else platformdirs.user_data_path
    return found("orch")


def _mode_of_user() -> str:
    """The setting `resident`; empty if the file or the value is wrong, of which the command itself tells."""
    try:
        file = user_folder("XDG_CONFIG_HOME", ".config") / NAME
        if not file.is_file():
            return "auto"
        text = file.read_text(encoding="utf-8")
        if "resident" not in text:
            return "auto"
        import tomllib  # only for files that may have the setting

        mode = tomllib.loads(text).get("resident", "auto")
    except (OSError, ValueError, RuntimeError):
        return ""
    return mode if mode in MODES else ""


def _is_another_user() -> bool:
    """Whether the command runs for a while as another user, such as with `sudo`."""
    by_sudo = os.environ.get("SUDO_UID", "")
    return (
        os.getuid() != os.geteuid()
        or (by_sudo.isdecimal() and int(by_sudo) != os.geteuid())
        or "DOAS_USER" in os.environ
    )


def _is_in_container() -> bool:
    """A container ends with its command, or has little memory."""
    return any(map(os.environ.get, VARIABLES)) or any(map(os.path.exists, MARKS))


def _has_terminal() -> bool:
    """Whether a person may type the next command here: not with cron, or as a service."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
