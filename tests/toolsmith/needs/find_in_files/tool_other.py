import os
import re
from collections.abc import Iterator

from smolagents import tool


def text_files(folder: str) -> Iterator[str]:
    """Paths of the files below a folder that are not hidden."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from text_files(entry.path)
        elif entry.is_file():
            yield entry.path


@tool
def find_in_files(query: str, folder: str = ".", ignore_case: bool = False) -> list[dict[str, str | int]]:
    """Search files for a text.

    Args:
        query: The text.
        folder: Where to look.
        ignore_case: Whether case does not matter.

    Returns:
        The lines found, with path and number.
    """
    if query == "":
        raise ValueError("nothing to look for")
    pattern = re.compile(re.escape(query), re.IGNORECASE if ignore_case else 0)
    hits = []
    # os.scandir raises FileNotFoundError and NotADirectoryError itself.
    for path in sorted(os.path.normpath(path) for path in text_files(folder)):
        with open(path, "rb") as file:
            content = file.read()
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            continue
        hits += [
            {"path": path, "line": number, "text": line.strip()}
            for number, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    return hits
