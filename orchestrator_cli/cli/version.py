"""The version of `orch` with the commit that it was made from, as far as that is known."""

import json
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator_cli import __version__
from orchestrator_cli.durable.files import read_regular

DIGITS = 12
MAX_BYTES = 1 << 20


def version_line() -> str:
    """Such as `orch 0.1.0 (commit 0123456789ab)`; a `+` after the commit is for changes to it."""
    found = _of_wheel() or _of_source()
    return f"orch {__version__} (commit {found})" if found else f"orch {__version__}"


def _of_wheel() -> str:
    """What the build of the wheel has written."""
    try:
        return resources.files("orchestrator_cli").joinpath("commit.txt").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _of_source() -> str:
    """The commit of the repository, or of the clone, that it was installed from."""
    try:
        url = json.loads(distribution("orchestrator-cli").read_text("direct_url.json") or "{}")
        if "vcs_info" in url:
            return str(url["vcs_info"]["commit_id"])[:DIGITS]
        if not url["dir_info"].get("editable"):
            return ""
        return _head(Path(unquote(urlsplit(url["url"]).path)) / ".git")[:DIGITS]
    except (PackageNotFoundError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _head(git: Path) -> str:
    """The commit that a clone is at. Raises `OSError`, also for a work tree whose repository is elsewhere."""
    head = _text(git / "HEAD")
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    try:
        return _text(git / name)
    except FileNotFoundError:
        rows = (line.split() for line in _text(git / "packed-refs").splitlines())
        return next((row[0] for row in rows if row[1:] == [name]), "")


def _text(path: Path) -> str:
    return read_regular(path, MAX_BYTES).decode("ascii", "replace").strip()
