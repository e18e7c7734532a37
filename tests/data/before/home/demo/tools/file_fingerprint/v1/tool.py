import hashlib
from pathlib import Path, PurePosixPath

from smolagents import tool


def count_lines(content: bytes) -> int:
    """Count line feeds, plus one where the content does not end in one.

    Args:
        content: The raw bytes of a file.

    Returns:
        The number of lines; 0 for no content.
    """
    return content.count(b"\n") + bool(content and not content.endswith(b"\n"))


def check_path(path: str) -> Path:
    """Refuse a path that is not inside the workspace.

    Args:
        path: The path as it was given.

    Returns:
        The path, fit to be opened.
    """
    parts = PurePosixPath(path).parts
    depth, lowest = 0, 0
    for part in parts:
        depth += -1 if part == ".." else 1
        lowest = min(lowest, depth)
    if not parts or PurePosixPath(path).is_absolute() or lowest < 0:
        raise ValueError(f"{path!r} is not a path inside the workspace")
    return Path(path)


@tool
def file_fingerprint(path: str) -> dict[str, int | str]:
    """Describe the content of one file, so that two moments of it can be compared.

    Args:
        path: The file, relative to the workspace.

    Returns:
        The path, the size in bytes, the SHA-256 of the raw bytes and the number of lines.
    """
    file = check_path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{path!r} is a folder")
    if not file.exists():
        raise FileNotFoundError(f"there is nothing at {path!r}")
    content = file.read_bytes()
    return {
        "path": path,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "lines": count_lines(content),
    }
