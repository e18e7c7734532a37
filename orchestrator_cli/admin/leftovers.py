"""Where else a forgotten text is recorded, outside of memory, and how its owner removes it there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.journal.hash_chain import log_bytes


@dataclass(frozen=True)
class Leftover:
    """A file that still contains the forgotten text, and how to remove it."""

    path: Path
    remedy: str


def leftover(path: Path, home: Path) -> Leftover:
    """The file with its remedy; `home` is the data folder."""
    return Leftover(path, _remedy(path, home))


def log_contains(path: Path, texts: Iterable[str]) -> bool:
    """Whether a log contains the longest line of one of the texts."""
    try:
        content = log_bytes(path)
    except OSError:
        return False
    longest = [max(text.splitlines(), key=len).strip() for text in texts if text.strip()]
    return any(line.encode("utf-8", "replace") in content for line in longest if line)


def _remedy(path: Path, home: Path) -> str:
    inside = path.relative_to(home).parts if path.is_relative_to(home) else ()
    match inside:
        case ("demo", *_):
            return f"rm -r {home / 'demo'}"
        case ("runs", run, *_):
            return f"rm -r {home / 'runs' / run}   (the run can then be neither resumed nor undone)"
        case ("history",):
            return "your command history: remove the line with an editor"
        case ("knowledge", *_):
            return "orch kb remove SOURCE"
        case ("tools", *_):
            return "a built tool: orch tools remove NAME"
        case ():
            return "remove it with an editor; orch log verify will report the entry as altered"
    return "remove the file while no orch process is running"
