"""What a planner is shown of a workspace: the user's own files, the nearest to the top first.

Looking is bounded, because the first request of a run waits for it. A folder that is left out is named and
not entered.
"""

import codecs
import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator_cli.durable.encodings import encoding_of
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.tools.file_rules import executes, folders_above
from orchestrator_cli.tools.own_files import OwnFiles
from orchestrator_cli.workspace.contents import holds_secret
from orchestrator_cli.workspace.tree import Root

LOOKS = 500_000
"""Names that are looked at, each times the patterns that it is compared with: less than half a second."""
FOLDER_LOOKS = 8
"""What entering a folder costs of them, besides one for each folder that it is in: each is opened."""
SHOWN, LEFT_OUT_SHOWN, FOLDERS_SHOWN = 100, 20, 10
BEGINNINGS_CHARS, LINES, LINE_CHARS = 2_000, 3, 120
"""Of the first lines of text files: of all files, and of one."""
HEAD_BYTES = 2_000
_BEFORE = "\"'`([<«“‘"
_AFTER = "\"'`)]>»”’,.:;!?"
"""Signs before and after a path in a sentence."""


@dataclass(frozen=True)
class FileListing:
    """The files of a workspace."""

    rows: tuple[str, ...]
    """For a planner: a path with its size and how a text begins, then what is not shown."""
    paths: tuple[str, ...]
    """Of all files that were found."""
    is_whole: bool
    """Whether looking was not ended early."""


def listing(
    tree: Root,
    hidden: Callable[[str], bool],
    enter: Callable[[str, int], bool],
    request: str = "",
    mask: Callable[[str], str] = str,
) -> FileListing:
    """The user's own files below an open folder, without what is `hidden`.

    `enter` gets each folder and its descriptor first, and returns whether it is shown. What the request
    names comes first in the rows. `mask` removes keys from how files begin, before lines are cut: of half a
    key, nothing could tell later that it is one. Raises `OSError`.
    """
    own, found, left_out = OwnFiles(tree.path), list[str](), list[str]()
    folders, looks = deque([""]), LOOKS
    while folders and looks > 0:
        folder = folders.popleft()
        looks -= FOLDER_LOOKS + folder.count("/")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), tree.folder(folder) as fd:
            if not enter(folder, fd):
                continue
            with os.scandir(fd) as entries:
                names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            own.enter(folder, names)
            for name, is_folder in sorted(names.items(), key=lambda row: (row[0].startswith("."), row[0])):
                path = f"{folder}/{name}" if folder else name
                looks -= own.cost
                if looks <= 0:
                    break
                if hidden(path):
                    continue
                if own.leaves_out(path, is_folder=is_folder):
                    left_out.append(f"{path}/" if is_folder else path)
                elif is_folder:
                    folders.append(path)
                else:
                    found.append(path)
    rows = _rows(tree, _named_first(found, request), left_out, mask, is_whole=looks > 0)
    # A name that is not UTF-8 cannot be named by a prompt or a plan.
    return FileListing(tuple(rows), tuple(path for path in found if path.isprintable()), looks > 0)


def _named_first(found: list[str], request: str) -> list[str]:
    """The paths, first those that a request names, also by a folder of theirs, up to half of what is shown.

    A word is a path if it has a slash or a point within it, so that "tests" alone names nothing.
    """
    plain = (word.lstrip(_BEFORE).rstrip(_AFTER) for word in request.split())
    words = {word.removeprefix("./").rstrip("/") for word in plain if "/" in word or "." in word} - {""}
    named = [path for path in found if words and (path in words or not words.isdisjoint(folders_above(path)))]
    first = dict.fromkeys(named[: SHOWN // 2])
    return [*first, *(path for path in found if path not in first)]


def _rows(
    tree: Root, found: list[str], left_out: list[str], mask: Callable[[str], str], *, is_whole: bool
) -> list[str]:
    rows, left = list[str](), BEGINNINGS_CHARS
    for path in found[:SHOWN]:
        state = tree.stat(path)
        if state is None or holds_secret(tree, path, state):
            continue
        row = f"{on_one_line(path)} ({state.size} bytes)"
        # What agents obey, such as AGENTS.md, is not quoted before a person has allowed it.
        may_begin = state.is_file and state.size and executes.within(path) is None
        if may_begin and (begins := _beginning(tree, path, left, mask)):
            left -= len(begins)
            row += f", begins: {begins}"
        rows.append(row)
    if more := found[SHOWN:]:
        counted = Counter(f"{path.partition('/')[0]}/" if "/" in path else "other files" for path in more)
        parts = [f"{on_one_line(name)} {count}" for name, count in counted.most_common(FOLDERS_SHOWN)]
        least = "" if is_whole else "at least "
        rows.append(f"… and {least}{len(more)} more files: {', '.join(parts)}")
    elif not is_whole:
        rows.append("… and more files")
    if left_out:
        names = [on_one_line(path) for path in left_out[:LEFT_OUT_SHOWN]]
        others = [f"and {len(left_out) - len(names)} more"] if len(left_out) > len(names) else []
        rows.append(f"Left out, because git ignores them or a program made them: {', '.join(names + others)}")
    return rows


def _beginning(tree: Root, path: str, most: int, mask: Callable[[str], str]) -> str:
    """The first lines of a text, with ⏎ between them, in at most `most` characters; empty if it is none."""
    with contextlib.suppress(OSError, ValueError), os.fdopen(tree.open_file(path), "rb") as file:
        head = file.read(HEAD_BYTES)
        encoding = encoding_of(head, is_whole=len(head) < HEAD_BYTES, guess=False)
        text = codecs.getincrementaldecoder(encoding.name)().decode(head[len(encoding.mark) :])
        lines = [truncate(line.strip(), LINE_CHARS) for line in mask(text).split("\n")[:LINES]]
        begins = on_one_line(" ⏎ ".join(filter(None, lines)))
        return begins if len(begins) <= most else ""
    return ""
