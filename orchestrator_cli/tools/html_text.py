"""The text of a page of HTML. Pure.

Called in a process with limits (`subprocesses.limited`): the parser's time is not bounded by its input.
"""


def html_text(page: str, most: int) -> str:
    """What a reader sees, as Markdown of at most `most` characters. Raises what the library raises."""
    from markdownify import markdownify

    return str(markdownify(page)).strip()[:most]
