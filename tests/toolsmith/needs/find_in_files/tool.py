from pathlib import Path

from smolagents import tool


@tool
def find_in_files(query: str, folder: str = ".", ignore_case: bool = False) -> list[dict]:
    """Find the lines that hold a text in the text files of a folder and of the folders below it.

    Args:
        query: The text to look for, literally.
        folder: The folder, relative to the workspace.
        ignore_case: Whether capitals and small letters count as the same.

    Returns:
        One object with path, line and text for each line found.
    """
    if not query:
        raise ValueError("the query is empty")
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {folder!r}")
    if not root.is_dir():
        raise NotADirectoryError(f"{folder!r} is no folder")
    wanted = query.casefold() if ignore_case else query
    found = []
    for file in root.rglob("*"):
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(root).parts):
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            if wanted in (line.casefold() if ignore_case else line):
                found.append({"path": file.as_posix(), "line": number, "text": line.strip()})
    return sorted(found, key=lambda hit: (hit["path"], hit["line"]))
