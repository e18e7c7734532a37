"""Messages to services by Apprise; what sends them is called in a process of its own (`limited`).

Apprise makes its own requests. There, they follow no redirect, unless the address itself says `redirect=yes`,
and find no login of `~/.netrc`, and what a service replies can take no more memory and time than the process
may. Imports little, because the end of a run waits for it.
"""

import logging
import os
import threading
import time

LOOK_S = 0.1


def is_known(address: str) -> bool:
    """Whether Apprise knows this kind of address. Nothing is sent."""
    import apprise

    return bool(apprise.Apprise().add(address))


def deliver(address: str, title: str, text: str) -> str:
    """Send a message. Returns why that failed, in words for a person, or nothing."""
    _end_with_parent()
    logging.disable()
    import apprise

    services = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
    if not services.add(address):
        return "Apprise does not know this kind of address"
    if not services.notify(text, title=title, body_format=apprise.NotifyFormat.TEXT):
        return "it did not take the message"
    return ""


def _end_with_parent() -> None:
    """What is still being sent when `orch` ends is sent by the next one."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
