"""The `.gitignore` rules of a folder, which may be a stranger's: reading and matching them is always quick.

Only regular files are read, and no links, as in git. A pattern takes time in proportion to the length of the
path, however many stars it has.

What is not covered: `.git/info/exclude`, the rules of the user's own git configuration, and files that are
tracked although a rule ignores them.
"""

import bisect
import re
from pathlib import Path

from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.durable.places import repository_around

IGNORE_FILE = ".gitignore"
MAX_BYTES = 256 * 1024
MAX_RULES = 1_000
"""How much is read of all rules for one folder: each rule takes 0.3 ms to prepare, and time at each file."""
MAX_PATH = 4096
"""A longer rule matches no path."""

_STAR = "[^/]*"
_FOLDER, _END = "(?P<ps_d>/)", "(?:(?P<ps_d>/)|$)"
"""What it writes at the end: for a folder, or for anything."""
_FOLDERS = re.compile(r"\(\?:(\.\+/|/\.\+)\)\?")
"""What pathspec writes for `**`. Like `_STAR`, it holds a slash, so no segment of a rule can contain it."""


class IgnoreRules:
    """The rules of the folders from the repository's root, or the folder itself, down to the current folder.

    As in git, a rule in a nearer `.gitignore` overrides one in a farther file.
    """

    def __init__(self, root: Path, *, alone: bool = False, view: Path | None = None) -> None:
        """
        Args:
            root: the folder whose rules these are, by the name that paths begin with.
            alone: without the rules of the folders above.
            view: where what is in `root` is read instead, such as in a checkout of it.
        """
        self.faults: list[tuple[Path, str]] = []
        """The files of rules that are not obeyed, each with the reason."""
        self.size = 0
        """How many rules there are: each costs time at each path."""
        self._root, self._view = root, view or root
        self._left = MAX_BYTES
        self._read: set[Path] = set()
        self._rules: list[tuple[str, list[tuple[re.Pattern[str], bool]]]] = []
        """The folders that have rules, as the beginning of paths in them, the nearest first; and the rules of
        each, the last first."""
        top = (None if alone else repository_around(root)) or root
        for folder in (*reversed(root.parents), root):
            if folder.is_relative_to(top):
                self.enter(folder)

    def enter(self, folder: Path) -> None:
        """Read the rules of a folder, after those of the folders above it."""
        if folder in self._read:
            return
        self._read.add(folder)
        is_inside = folder.is_relative_to(self._root)
        path = (self._view / folder.relative_to(self._root) if is_inside else folder) / IGNORE_FILE
        try:
            if path.is_symlink():
                raise OSError(0, "it is a symbolic link")
            content = read_regular(path, self._left + 1)
            if len(content) > self._left:
                raise OSError(0, f"there are more than {MAX_BYTES // 1024} KiB of rules")
        except FileNotFoundError:
            return
        except OSError as exc:
            self.faults.append((path, f"its rules are not obeyed: {exc.strerror}"))
            return
        # As in git: after a mark at the beginning, and with nothing but line feeds at the ends of lines.
        rows = (row.removesuffix("\r") for row in content.decode("utf-8-sig", "replace").split("\n"))
        lines = [row for row in rows if row and row[0] != "#" and len(row) <= MAX_PATH]
        if self.size + len(lines) > MAX_RULES:
            self.faults.append((path, f"its rules are not obeyed: there are more than {MAX_RULES:,}"))
            return
        self._left -= len(content)
        self.size += len(lines)
        rules = list(filter(None, map(_rule, reversed(lines))))
        bisect.insort(self._rules, (f"{str(folder).rstrip('/')}/", rules), key=lambda row: -len(row[0]))

    def ignore(self, path: str, is_folder: bool) -> bool:
        """Whether git ignores an absolute path; whether it ignores a folder above it is not looked at."""
        for folder, rules in self._rules:
            if path.startswith(folder):
                rest = path[len(folder) :] + ("/" if is_folder else "")
                for pattern, include in rules:
                    if pattern.search(rest):
                        return include
        return False


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """What a line matches, and whether that is ignored. As in git, a line that is not valid has no effect."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        expression, include = GitIgnoreSpecPattern.pattern_to_regex(line)
        if expression is not None and include is not None:
            return re.compile(_linear(_of_itself(expression, line))), include
    except (ValueError, re.error):
        pass
    return None


def _of_itself(expression: str, line: str) -> str:
    """A pattern of pathspec's that matches no path only because of a folder around it.

    As in git: what is in an ignored folder is not looked at, and `!folder/` brings nothing else of it back.
    """
    if expression.endswith(_END):
        return expression.removesuffix(_END) + r"/?\Z"
    if not expression.endswith(_FOLDER):  # `a/**`, which is not `a` itself
        return f"{expression}." if expression.endswith("/") else expression
    within = "/.+" if line.rstrip(" ").endswith("/**/") and expression != _FOLDER else ""
    return expression.removesuffix(_FOLDER) + rf"{within}/\Z"


def _linear(expression: str) -> str:
    """The same pattern without backtracking over more than one `**`, and one `*` of a segment.

    What is between two of them has a fixed length, in segments or in letters. So if the pattern matches at
    all, it matches with the first place for each of these pieces, and no other has to be tried.
    """
    start, *pieces = _FOLDERS.split(expression)
    folders, segments = pieces[::2], [_linear_segments(piece) for piece in pieces[1::2]]
    firsts = [
        rf"(?>(?:{folder.replace('+', '+?')})??{piece}(?=/))"
        for folder, piece in zip(folders[:-1], segments[:-1], strict=True)
    ]
    last = f"(?:{folders[-1]})?{segments[-1]}" if folders else ""
    return "".join((_linear_segments(start), *firsts, last))


def _linear_segments(expression: str) -> str:
    start, *pieces = expression.split(_STAR)
    # The last star of a segment is the one before a slash, which `[^/]`, any other letter, is not.
    is_last = ["/" in piece.replace("[^/]", "") for piece in pieces[:-1]] + [True]
    return start + "".join(
        f"{_STAR}{piece}" if last else f"(?>{_STAR}?{piece})"
        for piece, last in zip(pieces, is_last, strict=False)
    )
