"""The model of embeddings that the user has set for memory, as memory is handed it.

A provider that fails, and a limit of the run that is met, are told once and stop nothing: see `memory.dense`.
What ends the run (Ctrl-C, its time limit) ends the asking as well.
"""

from collections.abc import Callable, Sequence

from memory import Dense, EmbeddingFailed
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import LimitReached, ProviderError
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.chain import EmbeddingModel
from orchestrator_cli.settings import Settings

LATER = "What lacks a vector is found by its words, and gets one with: orch memory embed"


def open_dense(
    settings: Settings,
    warn: Callable[[str], None],
    *,
    cancellation: Cancellation | None = None,
    meter: MeteredModel | None = None,
    mask: Callable[[str], str] = str,
) -> Dense | None:
    """The model of `memory.dense`; None where none is set. `mask` takes secrets out of what is sent."""
    if settings.memory.dense is None:
        return None
    embedding = EmbeddingModel(settings.memory.dense, cancellation or Cancellation(), meter)

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        try:
            return embedding([mask(text) for text in texts])
        except ProviderError as exc:
            raise EmbeddingFailed(f"{exc.message} Check memory.dense and its provider. {LATER}") from exc
        except LimitReached as exc:
            raise EmbeddingFailed(f"{exc.message} {LATER}") from exc

    return Dense(settings.memory.dense, embed, warn)
