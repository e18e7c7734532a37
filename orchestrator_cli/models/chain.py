"""The models of a run, put together: persistent → waiting for its turn → metered → one try at LiteLLM.

Played-back replies are metered alone: they have no provider that could fail, no price and no turns.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.events import Fact, Noticed
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.model import LiteModel, Model, quote, unpriced
from orchestrator_cli.models.persistent import PersistentModel
from orchestrator_cli.models.turns import TurnTakingModel
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage

Emit = Callable[[Fact], None]


@dataclass(frozen=True)
class Models:
    model: Model
    """The one that is asked."""
    meter: MeteredModel
    """What its calls came to."""


def open_models(
    settings: Settings,
    names: Mapping[str, str],
    cancellation: Cancellation,
    emit: Emit,
    *,
    used: Usage = Usage(),  # noqa: B008 - it is frozen
    run: str = "",
) -> Models:
    """Live models: `names` per role. `used` and `run` are as in `MeteredModel`."""
    once = LiteModel(cancellation, timeout=settings.model_timeout)
    meter = MeteredModel(once, settings, emit, quote=quote, used=used, run=run)
    model = PersistentModel(
        TurnTakingModel(meter, settings.max_parallel_models, cancellation),
        names,
        cancellation,
        fallbacks=settings.fallbacks,
        retries=settings.model_retries,
        notice=lambda text: emit(Noticed(message=text)),
    )
    return Models(model, meter)


def played_models(
    model: Model,
    settings: Settings,
    emit: Emit,
    *,
    used: Usage = Usage(),  # noqa: B008 - it is frozen
    run: str = "",
) -> Models:
    """A recording in the place of models."""
    meter = MeteredModel(model, settings, emit, used=used, run=run)
    return Models(meter, meter)


def check_prices(settings: Settings, names: Iterable[str], cancellation: Cancellation) -> None:
    """Raise `ConfigError` where money is capped and a model has no price: the cap would not hold.

    It needs LiteLLM, so it waits for its import; without such a cap it returns at once.
    """
    if settings.max_cost is None or settings.allow_unpriced:
        return
    if unknown := cancellation.waiting_for(lambda: unpriced([*names, *settings.fallbacks])):
        several = len(unknown) > 1
        raise ConfigError(
            f"The limit of ${settings.max_cost:g} cannot hold: no price is known of {', '.join(unknown)}.",
            f"Name {'models' if several else 'a model'} with a price, limit calls or tokens instead "
            "(--max-calls, --max-tokens), or let them pass uncounted with --allow-unpriced.",
        )
