"""The files that have a system start `orch up` from each login on, as text: a systemd unit, a launchd agent.

Both leave runs at work when they restart `orch up`, and read keys from a file of `NAME=VALUE` lines.
"""

import plistlib
import shlex
from collections.abc import Sequence
from pathlib import Path

UNIT, LABEL = "orch-up.service", "orch.up"
PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""Where programs are searched for, of which launchd gives little."""


def systemd_unit(command: Sequence[str], home: Path) -> str:
    """The unit of a user. Its keys are in `~/.config/orch/environment`."""
    return (
        "[Unit]\nDescription=orch up: what is scheduled\n\n"
        f"[Service]\nExecStart={shlex.join(command).replace('%', '%%')}\n"
        f'Environment="ORCH_HOME={str(home).replace("%", "%%")}"\n'
        "EnvironmentFile=-%h/.config/orch/environment\n"
        # What it has started goes on when it is restarted.
        "KillMode=process\nRestart=on-failure\nRestartSec=5\n\n"
        "[Install]\nWantedBy=default.target\n"
    )


def launchd_agent(command: Sequence[str], home: Path) -> bytes:
    """The agent of a user. Its keys are in the same file, which may also set another PATH."""
    # launchd reads no file of variables itself.
    read = 'keys="$HOME/.config/orch/environment"; if [ -r "$keys" ]; then set -a; . "$keys"; set +a; fi'
    log = str(home / "schedules" / "up.log")
    agent = {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", f'{read}; exec "$@"', "orch", *command],
        "EnvironmentVariables": {"ORCH_HOME": str(home), "PATH": PATH},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        # What it has started goes on when it is restarted.
        "AbandonProcessGroup": True,
        "ProcessType": "Background",
        "StandardOutPath": log,
        "StandardErrorPath": log,
        "Umask": 0o077,
    }
    return plistlib.dumps(agent)
