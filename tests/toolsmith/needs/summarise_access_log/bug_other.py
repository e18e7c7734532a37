import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from smolagents import tool

LINE = re.compile(r'\S+ \S+ \S+ \[[^\]]*\] "(\S+) (\S+) (\S+)" ([0-9]{3}) ([0-9]+|-)(?: .*)?')


@tool
def summarise_access_log(path: str, top: int = 3) -> dict:
    """Summarise an access log: requests, bytes, status codes and the paths asked for most.

    Args:
        path: The log, relative to the workspace, in the Common or Combined Log Format.
        top: How many paths to return.

    Returns:
        requests, skipped, bytes, statuses and top_paths.
    """
    if top < 1:
        raise ValueError(f"top is {top}; it must be at least 1")
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no log {path!r}")
    statuses: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    size = skipped = 0
    for line in file.read_text(encoding="utf-8").split("\n"):
        if not line.strip():
            continue
        found = LINE.fullmatch(line.rstrip("\r"))
        if not found:
            skipped += 1
            continue
        _, target, _, status, sent = found.groups()
        statuses[status] += 1
        paths[urlsplit(target).path] += 1
        size += 0 if sent == "-" else int(sent)
    busiest = sorted(paths.items(), key=lambda item: (-item[1], item[0]))[:top]
    return {
        "requests": statuses.total(),
        "skipped": skipped,
        "bytes": size,
        "statuses": dict(statuses),
        "top_paths": [{"path": name, "requests": count} for name, count in busiest],
    }
