import itertools
import re

from smolagents import tool

LIMIT = 1_000_000
RUN = re.compile("([1-9][0-9]*)x(.)", re.DOTALL)


@tool
def run_length(text: str, decode: bool = False) -> str:
    """Encode a text by the lengths of its runs of equal characters, or decode it again.

    Args:
        text: What is to be encoded, or decoded.
        decode: Decode instead of encode.

    Returns:
        The encoded or decoded text.
    """
    return _decoded(text) if decode else _encoded(text)


def _encoded(text: str) -> str:
    return "".join(f"{len(list(run))}x{character}" for character, run in itertools.groupby(text))


def _decoded(text: str) -> str:
    parts = []
    at = 0
    while at < len(text):
        run = RUN.match(text, at)
        if not run:
            raise ValueError(f"no run begins at position {at} of the text")
        if len(run[1]) > 7 or int(run[1]) > LIMIT:
            raise ValueError(f"the decoded text would be longer than {LIMIT} characters")
        parts.append(run[2] * int(run[1]))
        at = run.end()
    return "".join(parts)
