import re
from pathlib import Path

from smolagents import tool


@tool
def read_ini(path: str) -> dict[str, dict[str, str]]:
    """Read an INI file into an object of sections, each an object of keys and texts.

    Args:
        path: The file, relative to the workspace.

    Returns:
        Section to key to value.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if header := re.match(r"\[(.+)\]", line):
            if header[1] in sections:
                raise ValueError(f"line {number}: the section {header[1]!r} stands twice")
            current = sections[header[1]] = {}
            continue
        key, value = _setting(line, number)
        if current is None:
            raise ValueError(f"line {number}: the key {key!r} stands before the first section")
        if key in current:
            raise ValueError(f"line {number}: the key {key!r} stands twice")
        current[key] = value
    return sections


def _setting(line: str, number: int) -> tuple[str, str]:
    separator = "=" if "=" in line else ":"
    key, found, value = line.partition(separator)
    if not found or not key.strip():
        raise ValueError(f"line {number}: {line!r} is neither a section nor a setting")
    return key.strip().lower(), value.strip()
