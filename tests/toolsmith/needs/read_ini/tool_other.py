import re

from smolagents import tool


@tool
def read_ini(path: str) -> dict[str, dict[str, str]]:
    """Read the sections, keys and values of an INI file.

    Args:
        path: The INI file.

    Returns:
        An object for each section, with the values by key.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except IsADirectoryError as exc:
        raise FileNotFoundError(f"{path} is a folder") from exc
    found: dict[str, dict[str, str]] = {}
    section = None
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1]
            if name in found:
                raise ValueError(f"line {number}: the section [{name}] stands twice")
            section = found[name] = {}
            continue
        key, sign, value = _split(line)
        if not sign or not key:
            raise ValueError(f"line {number} is neither a section nor a key: {line!r}")
        if section is None:
            raise ValueError(f"line {number}: the key {key!r} stands before any section")
        if key in section:
            raise ValueError(f"line {number}: the key {key!r} stands twice")
        section[key] = value
    return found


def _split(line: str) -> tuple[str, str, str]:
    at = re.search("[=:]", line)
    if at is None:
        return line, "", ""
    return line[: at.start()].strip().lower(), at[0], line[at.end() :].strip()
