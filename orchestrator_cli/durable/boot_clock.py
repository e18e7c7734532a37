"""The clock of this boot of the machine: it cannot be set, counts sleep too, and ends with the boot."""

import sys
import time
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names the time since the machine was started; empty if that is unknown."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""


def boot_seconds() -> float:
    """Seconds since some moment of this boot, the same moment for all processes of it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
