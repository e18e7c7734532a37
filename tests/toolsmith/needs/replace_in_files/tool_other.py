import os

from smolagents import tool


@tool
def replace_in_files(folder: str, suffix: str, old: str, new: str) -> dict[str, int]:
    """Replace text in many files.

    Args:
        folder: Where the files are.
        suffix: The ending of their names.
        old: What is replaced.
        new: By what.

    Returns:
        How many replacements there were in each changed file.
    """
    if "" in (old, suffix):
        raise ValueError("neither old nor suffix can be empty")
    if not os.path.isdir(folder):
        raise NotADirectoryError(folder)
    changed: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(suffix):
                continue
            path = os.path.normpath(os.path.join(parent, name))
            with open(path, encoding="utf-8", newline="") as file:
                parts = file.read().split(old)
            if len(parts) > 1:
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(new.join(parts))
                changed[path] = len(parts) - 1
    return changed
