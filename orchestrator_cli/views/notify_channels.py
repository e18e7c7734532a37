"""The ways to notify a user: the bell, the desktop, a program, and the services of Apprise.

Each is tried by itself. One that fails gives a line that names it, without anything of an address but its
first word: the rest may be a key. The network is reached only while a message is sent.

Not covered: services that Apprise has no answer from, for which a sent message is a successful one.
"""

import html
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from orchestrator_cli.environment import for_programs
from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.notify_settings import NotifySettings
from orchestrator_cli.subprocesses.limited import CallLimits, LimitedCalls, Uncomputed
from orchestrator_cli.views.notify_service import deliver, is_known
from orchestrator_cli.views.streams import write
from orchestrator_cli.views.text import one_line
from orchestrator_cli.views.user_command import CommandFailed, start_command

COMMAND_S = 10.0
DESKTOP = "notify-send"
SERVICES = CallLimits(call_s=30, whole_s=60, cpu_s=20, memory_mb=1024)
"""For what services are sent. One takes 70 MB."""
NO_LOGINS = {"NETRC": os.devnull}
_SCHEME_CHARS = 20


class NotifyFailed(RecoverableError):
    """Why one way did not work, in words for a person."""


class NotHere(NotifyFailed):
    """A way that does not exist here. A run passes over it, because there may be a desktop the next time."""


class NotifyAttempt(NamedTuple):
    name: str
    """Of the way."""
    failed: str
    """A line for a person; empty if the message was sent."""
    is_here: bool = True


def channels(notify: NotifySettings) -> Iterator[tuple[str, Callable[[str, str, dict[str, Any]], None]]]:
    """The ways that are set: a name, and a function of title, text and JSON object.

    The function raises `NotifyFailed`, `CommandFailed`, or any error of a library.
    """
    if notify.bell:
        yield "bell", _ring
    if notify.desktop:
        yield "desktop", _show
    if notify.command:
        yield (
            "command",
            lambda _title, _text, value: start_command(notify.command, json.dumps(value), COMMAND_S),
        )
    with LimitedCalls(deliver, SERVICES, environment=for_programs() | NO_LOGINS) as services:
        for number, url in enumerate(notify.urls, start=1):
            address = url.get_secret_value()
            scheme = (
                one_line(address.partition("://")[0], _SCHEME_CHARS) if "://" in address else "no address"
            )
            yield f"urls {number} ({scheme})", _service(address, services)


def send(notify: NotifySettings, title: str, text: str, value: dict[str, Any]) -> list[str]:
    """Send by every way. Returns a line for each that failed."""
    tried = send_each(notify, title, text, value)
    return [one.failed for one in tried if one.failed and one.is_here]


def send_each(
    notify: NotifySettings, title: str, text: str, value: dict[str, Any]
) -> Iterator[NotifyAttempt]:
    """Send by every way."""
    for name, way in channels(notify):
        failed, is_here = "", True
        try:
            way(title, text, value)
        except NotHere as exc:
            failed, is_here = f"notify: {name}: {exc}", False
        except (NotifyFailed, CommandFailed) as exc:
            failed = f"notify: {name}: {exc}"
        except Exception as exc:  # a library may raise anything, with an address in its message
            failed = f"notify: {name} failed ({type(exc).__name__})"
        yield NotifyAttempt(name, failed, is_here)


def faults(notify: NotifySettings) -> Iterator[str]:
    """What of the settings cannot work here, without anything being sent."""
    if notify.desktop and shutil.which(DESKTOP) is None:
        yield f"{DESKTOP} is not installed, so nothing is shown on the desktop"
    if notify.command and shutil.which(notify.command[0]) is None:
        yield f"the command {one_line(notify.command[0], 100)} is not there"
    for number, url in enumerate(notify.urls, start=1):
        if not is_known(url.get_secret_value()):
            yield f"address {number} of urls is none that Apprise knows"


def _ring(_title: str, _text: str, _value: dict[str, Any]) -> None:
    if not sys.stderr.isatty():
        raise NotHere("there is no terminal")
    write(sys.stderr, "\a")


def _show(title: str, text: str, _value: dict[str, Any]) -> None:
    program = shutil.which(DESKTOP)
    if program is None:
        raise NotHere(f"{DESKTOP} is not installed")
    # Some desktops read the text as markup.
    shown = (program, "--app-name=orch", "--", title, html.escape(text, quote=False))
    start_command(shown, "", COMMAND_S)


def _service(address: str, services: LimitedCalls) -> Callable[[str, str, dict[str, Any]], None]:
    def send(title: str, text: str, _value: dict[str, Any]) -> None:
        try:
            failed = services(address, title, text)
        except Uncomputed as exc:
            raise NotifyFailed(f"sending {exc}") from exc
        if failed:
            raise NotifyFailed(failed)

    return send
