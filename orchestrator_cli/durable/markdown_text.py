"""Words of others within Markdown: nothing in them becomes a heading, a link, a table cell or HTML. Pure."""

import re

_INLINE = re.compile(r"([\\`*\[\]|~])|((?<![^\W_])_|_(?![^\W_]))")
_STARTS_A_BLOCK = re.compile(r"\A(?:\d++(?=[.)](?:\s|$))|(?=[#+=-]))")


def escaped(line: str) -> str:
    """One line of words, with everything that Markdown or HTML would interpret escaped."""
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _INLINE.sub(lambda match: "\\" + match.group(), line)
    start = _STARTS_A_BLOCK.match(line)
    return f"{start.group()}\\{line[start.end() :]}" if start else line
