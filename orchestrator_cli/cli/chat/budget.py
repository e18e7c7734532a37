"""What a prompt of the loop may cost, as it is typed, and whether such a limit can hold."""

import contextlib
import math

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, OrchError, UsageError
from orchestrator_cli.models.chain import check_prices
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.text import one_line


def amount_of(dollars: str) -> float | None:
    """The limit that is typed; None for none. Raises `UsageError` if it is neither."""
    if dollars.strip().lower() in ("off", "none"):
        return None
    with contextlib.suppress(ValueError):
        amount = float(dollars.strip().lstrip("$"))
        if 0 < amount < math.inf:
            return amount
    raise UsageError(
        f"{one_line(dollars, 40)} is not an amount that a prompt can cost.",
        "Say /budget 0.50, or /budget off for no limit.",
    )


def names_of(settings: Settings) -> dict[str, str]:
    """The model of each role. Ctrl-C ends the wait for LiteLLM's import. Raises `ConfigError`."""
    return Cancellation().waiting_for(lambda: LiveModels().names(settings))


def priced(settings: Settings) -> Settings:
    """These settings. Raises `ConfigError` if cost is limited and a model has no price."""
    try:
        names = names_of(settings)
    except OrchError:
        return settings  # the next prompt says what is missing
    try:
        check_prices(settings, names.values(), Cancellation())
    except ConfigError as exc:
        remedy = "/model NAME asks a model with a price, and /budget off removes the limit."
        raise ConfigError(exc.message, remedy) from exc
    return settings
