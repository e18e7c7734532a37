import configparser
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
    text = file.read_text(encoding="utf-8")
    # configparser would take an indented line for a part of the value before it.
    if any(line[:1].isspace() and line.strip()[:1] not in ("", "#", ";") for line in text.splitlines()):
        raise ValueError(f"{path} has a line that does not begin in the first column")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, source=path)
    except configparser.Error as error:
        raise ValueError(f"{path} is not a sound INI file: {error}") from error
    return {name: dict(parser[name]) for name in parser.sections()}
