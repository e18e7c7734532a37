import re
import unicodedata

from smolagents import tool


@tool
def slugify(title: str, max_length: int = 60) -> str:
    """Make a slug for an address out of a title: small letters, digits and hyphens only.

    Args:
        title: Any text.
        max_length: How many characters the slug may have.

    Returns:
        The slug.
    """
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}, but must be at least 1")
    decomposed = unicodedata.normalize("NFKD", title)
    plain = decomposed.encode("ascii", "ignore").decode("ascii")
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:max_length].rstrip("-")
    if not slug:
        raise ValueError(f"nothing is left of {title!r}")
    return slug
