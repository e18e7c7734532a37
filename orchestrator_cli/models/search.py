"""Searches of the web through LiteLLM: by a provider that has a key, or by the user's SearXNG."""

from dataclasses import dataclass

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.models.library import litellm
from orchestrator_cli.tools.web_search import SearchHit

WAIT_S = 30.0


@dataclass(frozen=True)
class WebSearch:
    """One search service."""

    service: str
    """The name of a provider of LiteLLM's, or the address of a SearXNG."""
    seconds: float = WAIT_S
    """For a whole search."""

    @property
    def name(self) -> str:
        """For people."""
        return f"SearXNG at {self.service}" if self._is_address else self.service

    @property
    def _is_address(self) -> bool:
        return "://" in self.service

    def __call__(self, query: str, limit: int) -> list[SearchHit]:
        """Raises `ValueError` if the service cannot be asked, or does not answer as it should."""
        provider = "searxng" if self._is_address else self.service
        base = self.service if self._is_address else None
        try:
            late = TimeoutError(f"it took longer than {self.seconds:g} s")
            with Cancellation().limited(self.seconds, lambda: late) as whole:
                found = whole.waiting_for(
                    lambda: litellm().search(
                        query=query,
                        search_provider=provider,
                        max_results=limit,
                        api_base=base,
                        timeout=self.seconds,
                    )
                )
            hits = [SearchHit(str(row.title), str(row.url), str(row.snippet)) for row in found.results]
        except Exception as exc:  # LiteLLM's of every kind, and what a reply of another form raises
            why = truncate(str(exc).partition("\n")[0], 200)
            raise ValueError(f"{self.name} could not be asked: {type(exc).__name__}: {why}") from exc
        return hits[:limit]
