"""Texts cut to a length."""


def truncate(text: str, limit: int, *, rstrip: bool = False) -> str:
    """The text, at most `limit` characters long. If some are left out, it ends in `…`.

    Args:
        rstrip: leave no blanks before the `…`.
    """
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    return f"{kept.rstrip() if rstrip else kept}…"
