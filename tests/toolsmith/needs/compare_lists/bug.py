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
    return {"added": sorted(new - old), "removed": sorted(old - new), "common": sorted(old & new)}


def _cleaned(texts: list[str], ignore_case: bool) -> set[str]:
    stripped = [text.strip() for text in texts]
    for text in stripped:
        if not text:
            stripped.remove(text)
    return {text.lower() if ignore_case else text for text in stripped}
