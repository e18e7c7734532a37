import re

from smolagents import tool

NUMBER = r"(?:0|[1-9][0-9]*)"
WORD = r"[0-9A-Za-z-]+"
VERSION = re.compile(
    rf"({NUMBER})\.({NUMBER})\.({NUMBER})(?:-({WORD}(?:\.{WORD})*))?(?:\+{WORD}(?:\.{WORD})*)?"
)


def precedence(version: str) -> tuple:
    """A key that sorts versions by precedence, and equal ones by their text."""
    found = VERSION.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is not a version of Semantic Versioning 2.0.0")
    major, minor, patch, pre = found.groups()
    words = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in (pre or "").split(".")]
    return int(major), int(minor), int(patch), pre is None, words, version


@tool
def sort_versions(versions: list[str], newest_first: bool = False) -> list[str]:
    """Sort version numbers by the precedence of Semantic Versioning 2.0.0.

    Args:
        versions: The versions as texts.
        newest_first: Reverse the order.

    Returns:
        The same texts, sorted.
    """
    return sorted(versions, key=precedence, reverse=newest_first)
