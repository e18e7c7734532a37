import re

from smolagents import tool

URL = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[^/?#]*)@)?(?P<host>\[[^\]/?#]+\]|[^:/?#@\[\]]+)(?::(?P<port>[0-9]*))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE,
)


def remove_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    rest, done = path, ""
    while rest:
        if rest.startswith("/./"):
            rest = rest[2:]
        elif rest == "/.":
            rest = "/"
        elif rest.startswith("/../"):
            rest, done = rest[3:], done[: max(done.rfind("/"), 0)]
        elif rest == "/..":
            rest, done = "/", done[: max(done.rfind("/"), 0)]
        else:
            end = rest.find("/", 1)
            end = len(rest) if end < 0 else end
            done, rest = done + rest[:end], rest[end:]
    return done


@tool
def normalise_url(url: str) -> str:
    """Bring an http or https URL into one form.

    Args:
        url: An absolute URL.

    Returns:
        The normalised URL.
    """
    found = URL.fullmatch(url)
    if not found:
        raise ValueError(f"not an http or https URL with a host: {url!r}")
    scheme, host = found["scheme"].lower(), found["host"].lower()
    authority = host if found["user"] is None else f"{found['user']}@{host}"
    if found["port"]:
        port = int(found["port"])
        if port > 65_535:
            raise ValueError(f"the port {port} is larger than 65535")
        if (scheme, port) not in (("http", 80), ("https", 443)):
            authority += f":{port}"
    address = f"{scheme}://{authority}{remove_dot_segments(found['path'] or '/')}"
    parts = sorted(filter(None, (found["query"] or "").split("&")))
    return f"{address}?{'&'.join(parts)}" if parts else address
