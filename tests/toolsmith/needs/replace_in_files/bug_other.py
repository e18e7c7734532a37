from pathlib import Path

from smolagents import tool


@tool
def replace_in_files(folder: str, suffix: str, old: str, new: str) -> dict[str, int]:
    """Replace a text in all files of a folder and below whose names end in a certain way.

    Args:
        folder: The folder, relative to the workspace.
        suffix: How the names of the files end.
        old: The text to replace.
        new: What stands in its place.

    Returns:
        Path of each changed file to how many places were replaced.
    """
    if not old or not suffix:
        raise ValueError("old and suffix must not be empty")
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder!r} is no folder")
    replaced = {}
    for file in sorted(root.rglob("*")):
        if not file.is_file() or file.suffix != suffix:
            continue
        # As bytes, so that line ends stay what they are.
        content = file.read_bytes()
        count = content.count(old.encode())
        if count:
            file.write_bytes(content.replace(old.encode(), new.encode()))
            replaced[file.as_posix()] = count
    return replaced
