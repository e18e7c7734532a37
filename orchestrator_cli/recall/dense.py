"""The user's embedding model, in the form that memory needs.

A failing provider or a limit of the run stops nothing and causes one warning: see `memory.dense`. Ctrl-C and
the run's time limit also cancel calls to the model.
"""

from collections.abc import Callable, Sequence

from memory import Dense, EmbeddingFailed
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import LimitReached, ProviderError
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.chain import EmbeddingModel
from orchestrator_cli.settings import Settings

LATER = "Records without a vector are found by their words; make the vectors with: orch memory embed"


def open_dense(
    settings: Settings,
    warn: Callable[[str], None],
    *,
    cancellation: Cancellation | None = None,
    meter: MeteredModel | None = None,
    mask: Callable[[str], str] = str,
) -> Dense | None:
    """The model of `memory.dense`; None if none is set. `mask` removes secrets from the texts that are
    sent."""
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
