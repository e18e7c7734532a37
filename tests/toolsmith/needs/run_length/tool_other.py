from smolagents import tool


class Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.text)

    def take(self) -> str:
        """The next character."""
        if self.done:
            raise ValueError("the text ends in the middle of a run")
        self.at += 1
        return self.text[self.at - 1]


def encode(text: str) -> str:
    """Runs of a text as count, x and character."""
    out: list[str] = []
    count = 0
    for at, sign in enumerate(text):
        count += 1
        if at + 1 == len(text) or text[at + 1] != sign:
            out.append(str(count) + "x" + sign)
            count = 0
    return "".join(out)


def decode_runs(text: str) -> str:
    """The text that runs stand for."""
    reader = Reader(text)
    out = ""
    while not reader.done:
        count = ""
        while (sign := reader.take()) != "x":
            if sign not in "0123456789" or (sign == "0" and not count) or len(count) > 6:
                raise ValueError(f"{count + sign!r} is no length of a run")
            count += sign
        if not count or len(out) + int(count) > 1_000_000:
            raise ValueError("a run has no length, or the text becomes too long")
        out += reader.take() * int(count)
    return out


@tool
def run_length(text: str, decode: bool = False) -> str:
    """Run-length encoding of a text.

    Args:
        text: The text.
        decode: Whether to decode.

    Returns:
        The other form of the text.
    """
    if decode:
        return decode_runs(text)
    return encode(text)
