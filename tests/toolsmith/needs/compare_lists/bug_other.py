from smolagents import tool


@tool
def compare_lists(before: list[str], after: list[str], ignore_case: bool = False) -> dict[str, list[str]]:
    """Compare two lists of texts as sets: what was added, what was removed, what both have.

    Args:
        before: The texts before.
        after: The texts after.
        ignore_case: Turn all texts into lower case before comparing.

    Returns:
        added, removed and common.
    """
    old, new = _cleaned(before, ignore_case), _cleaned(after, ignore_case)
    return {"added": _ordered(new - old), "removed": _ordered(old - new), "common": _ordered(old & new)}


def _ordered(texts: set[str]) -> list[str]:
    return sorted(texts, key=lambda text: (text.lower(), text))


def _cleaned(texts: list[str], ignore_case: bool) -> set[str]:
    stripped = (text.strip() for text in texts)
    return {text.lower() if ignore_case else text for text in stripped if text}
