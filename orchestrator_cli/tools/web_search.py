"""`search_web`: asks a search service, and offers the sites that it finds to be read with `fetch_url`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.tools.web import in_plain_letters

MOST, QUERY_CHARS = 20, 400
TITLE_CHARS, TEXT_CHARS, URL_CHARS = 200, 600, 500


@dataclass(frozen=True)
class SearchHit:
    """A page that a search service found; all of it is its word."""

    title: str
    url: str
    text: str


Searcher = Callable[[str, int], Sequence[SearchHit]]
"""From words and how many pages are wanted to what was found. Raises `ValueError` with a plain reason."""


class FoundSites:
    """The sites that the searches of one attempt have found, each with the title of its first page."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}

    def add(self, hit: SearchHit) -> None:
        if host := urlsplit(hit.url).hostname:
            self._titles.setdefault(host.lower().rstrip("."), truncate(on_one_line(hit.title), TITLE_CHARS))

    def title(self, host: str) -> str | None:
        """None for a host that no search has found."""
        return self._titles.get(host)


def search_tools(
    search: Searcher, found: FoundSites, permit: Callable[[], None]
) -> dict[str, Callable[..., Any]]:
    """`search_web`. `permit` raises what a call without permission raises."""

    def search_web(query: str, limit: int = 10) -> list[dict[str, str]]:
        """Search the web. Gives a list of pages, each with title, url and text (a part of the page).

        A page can be read with fetch_url: the user is asked about a site that was not allowed before.

        Args:
            query: The words to search for.
            limit: How many pages to give, at most 20.
        """
        words = on_one_line(query).strip()
        if not words or len(words) > QUERY_CHARS:
            raise ValueError(f"give 1 to {QUERY_CHARS} letters to search for")
        permit()
        rows = (
            replace(hit, url=in_plain_letters(hit.url)) for hit in search(words, max(1, min(limit, MOST)))
        )
        hits = [hit for hit in rows if _is_page(hit.url)][:MOST]
        for hit in hits:
            found.add(hit)
        return [
            {
                "title": truncate(on_one_line(hit.title), TITLE_CHARS),
                "url": hit.url,
                "text": truncate(on_one_line(hit.text), TEXT_CHARS),
            }
            for hit in hits
        ]

    return {"search_web": search_web}


def _is_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_plain = len(url) <= URL_CHARS and url.isprintable() and " " not in url
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)
