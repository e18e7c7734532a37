"""Draws a PNG on a terminal, by the protocol of kitty or of iTerm2.

Nothing is asked of the terminal: it is known by its name, so no typed key is lost and nothing waits for an
answer. `q=2` keeps kitty from sending one.

Not covered: sixel.
"""

import base64
import math
import os
from typing import Literal

CELL = 10
"""Pixels of a column, about."""
CHUNK = 4096
"""What kitty takes at once, in letters."""
ImageProtocol = Literal["kitty", "iterm2", ""]
"""How a terminal is given images; empty for one that is not known to draw them."""
BETWEEN = ("TMUX", "STY", "ZELLIJ", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
"""Variables that say that something is between this process and the terminal."""


def image_protocol() -> ImageProtocol:
    """The protocol of the terminal, by the names that it gives itself; empty in tmux and over ssh."""
    if any(map(os.environ.get, BETWEEN)):
        return ""
    terminal, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if terminal in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    is_named = terminal.startswith(("xterm", "wezterm")) and program in ("iTerm.app", "WezTerm")
    return "iterm2" if is_named else ""


def drawn(protocol: ImageProtocol, png: bytes, width: int, columns: int) -> str:
    """What draws a PNG of a width in pixels within so many columns, and ends the line below it."""
    cells = max(1, min(columns, math.ceil(width / CELL)))
    text = base64.b64encode(png).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(png)};width={cells};height=auto:{text}\x07\n"
    pieces = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
    last = len(pieces) - 1
    commands = (
        f"\x1b_G{'' if n else f'a=T,f=100,c={cells},'}q=2,m={int(n < last)};{piece}\x1b\\"
        for n, piece in enumerate(pieces)
    )
    return "".join(commands) + "\n"
