import re

from smolagents import tool

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def anchor_of(title: str) -> str:
    """The anchor of a heading that stands once."""
    kept = "".join(sign for sign in title.lower() if sign.isalnum() or sign in " -_")
    return kept.replace(" ", "-")


def headings(text: str) -> list[tuple[int, str]]:
    """Level and title of all headings outside code."""
    found = []
    fence = ""
    for line in text.split("\n"):
        line = line.rstrip("\r")
        marks = FENCE.fullmatch(line)
        if fence:
            if marks and marks[1][0] == fence[0] and len(marks[1]) >= len(fence) and not marks[2].strip():
                fence = ""
        elif marks:
            fence = marks[1]
        elif heading := HEADING.fullmatch(line):
            title = re.sub(r"(^|[ \t]+)#+[ \t]*$", "", heading[2]).strip()
            if title:
                found.append((len(heading[1]), title))
    return found


@tool
def markdown_outline(text: str, max_level: int = 6) -> list[dict]:
    """List the headings of a Markdown text with levels and anchors, for a table of contents.

    Args:
        text: The Markdown text.
        max_level: Deeper headings are left out.

    Returns:
        One object with level, title and anchor for each heading.
    """
    if not 1 <= max_level <= 6:
        raise ValueError(f"max_level is {max_level}, but must be 1 to 6")
    outline = []
    seen: dict[str, int] = {}
    for level, title in headings(text):
        anchor = anchor_of(title)
        times = seen.get(anchor, 0)
        seen[anchor] = times + 1
        if level <= max_level:
            outline.append(
                {"level": level, "title": title, "anchor": f"{anchor}-{times}" if times else anchor}
            )
    return outline
