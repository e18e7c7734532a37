"""Which links on the way to a path are followed without a question.

A link that leads out of the folder that holds it may be a stranger's: it came with what was downloaded or
unpacked. One is followed if the machine made it, or if it is on the way to where the user is anyway.

Not covered: a link that is put there between two looks, and hard links.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.durable.places import MAX_HOPS


class Link(NamedTuple):
    """A link, by its real folder, and the real path of what it leads to."""

    place: Path
    target: Path


def stray_link(
    links: Iterable[Link],
    known: Collection[Path],
    bounds: Iterable[Path] = (),
    is_closed: Callable[[Path], bool] = lambda _: False,
) -> Link | None:
    """The first link that leads out of the folder that holds it, or of the one of `bounds` it is in. Pure.

    Args:
        known: links that are followed, wherever they lead, unless one of the bounds holds them.
        bounds: folders, the innermost first, in which links may lead anywhere.
        is_closed: whether only the system's administrator can put a link into a folder.
    """
    limits = tuple(bounds)
    for link in links:
        bound = next((one for one in limits if link.place.is_relative_to(one)), None)
        is_known = bound is None and (link.place in known or is_closed(link.place.parent))
        if not is_known and not link.target.is_relative_to(bound or link.place.parent):
            return link
    return None


def links_on(path: Path) -> Iterator[Link]:
    """The links on the way to an absolute path, and on the ways on which they lead, in this order."""
    here, left, hops = Path("/"), list(reversed(path.parts[1:])), 0
    while left and hops < MAX_HOPS:
        part = left.pop()
        target = None
        with suppress(OSError, ValueError):
            target = os.readlink(here / part)  # noqa: PTH115 - `Path` drops a last `/.`
        if part == ".." or target is None:
            here = here.parent if part == ".." else here / part
            continue
        hops += 1
        yield Link(here / part, real_path(here / part))
        left += [name for name in reversed(target.split("/")) if name not in ("", ".")]
        here = Path("/") if target.startswith("/") else here


def links_to(folders: Iterable[Path]) -> frozenset[Path]:
    """The places of all links on the way to folders."""
    return frozenset(link.place for folder in folders for link in links_on(folder))


def only_root_writes(folder: Path) -> bool:
    """Whether the links in a folder are the machine's: only root can put one there, and we are not root."""
    try:
        found = folder.stat()
    except (OSError, ValueError):
        return False
    return os.geteuid() != 0 and found.st_uid == 0 and not found.st_mode & 0o022


def real_path(path: Path) -> Path:
    """Where a path leads; a link to itself leads nowhere."""
    try:
        return path.resolve()
    except RuntimeError:
        return path.absolute()
