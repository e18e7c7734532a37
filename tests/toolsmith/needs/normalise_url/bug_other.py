from urllib.parse import urlsplit, urlunsplit

from smolagents import tool

SCHEMES = ("http", "https")
DEFAULT_PORTS = (80, 443)


@tool
def normalise_url(url: str) -> str:
    """Bring an http or https URL into one form, so that spellings of the same page become equal.

    Args:
        url: The URL, absolute.

    Returns:
        The URL in its one form.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme of {url!r} is not http or https")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host")
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port  # raises ValueError itself when it is no number from 0 to 65535
    place = "" if port is None or port in DEFAULT_PORTS else f":{port}"
    query = "&".join(sorted(part for part in parts.query.split("&") if part))
    return urlunsplit((parts.scheme, f"{user}{at}{host}{place}", _resolved(parts.path), query, ""))


def _resolved(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
