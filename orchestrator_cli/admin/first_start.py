"""What a first start finds: models that could be asked, and the sandbox.

A model is tried with one short call. Keys are looked for by name. Nothing is written here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import OrchError
from orchestrator_cli.model_settings import ROLES
from orchestrator_cli.models.chain import open_models
from orchestrator_cli.models.default_models import Choice
from orchestrator_cli.models.discovery import (
    ModelServer,
    found_models,
    keys_set,
    local_servers,
    own_server,
)
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.models.pricing import quote, unpriced
from orchestrator_cli.models.sources import model_fault
from orchestrator_cli.runtime import choose_sandbox
from orchestrator_cli.settings import Settings

REPLY_TOKENS = 256
"""More than one word, because some models think first."""


@dataclass(frozen=True)
class FirstLook:
    """What is there."""

    keys: tuple[str, ...]
    """The names of the provider keys that are set."""
    servers: tuple[ModelServer, ...]
    models: tuple[tuple[Choice, str], ...]
    """What could be asked, the best first, with what each lacks; empty for nothing."""
    sandbox: str
    sandbox_fault: OrchError | None = None


def look_around(settings: Settings) -> FirstLook:
    """Find what is there. Takes at most about three seconds, plus the test of the sandbox."""
    own = own_server()
    sandbox, fault = "none works", None
    try:
        sandbox = choose_sandbox(settings).detail
    except OrchError as exc:
        fault = exc
    others = tuple(local_servers())
    models = tuple((found, model_fault(found.model)) for found in found_models(own, others))
    return FirstLook(keys_set(), (*([own] if own else []), *others), models, sandbox, fault)


def _request(model: str) -> ModelRequest:
    message = {"role": "user", "content": "Answer with the word yes."}
    return ModelRequest(role="answer", model=model, messages=(message,), max_tokens=REPLY_TOKENS)


def price_of_trial(model: str) -> str:
    """What `try_model` costs at most, in words. LiteLLM is imported for it."""
    if unpriced([model]):
        return "its price is not known"
    worst = quote(_request(model)).worst(REPLY_TOKENS).cost
    return f"it costs at most ${worst:.4f}" if worst else "it costs nothing"


def try_model(settings: Settings, model: str, notice: Callable[[str], None]) -> Completion:
    """Ask a model one short question, once. Raises `ProviderError`."""
    once = settings.model_copy(update={"fallbacks": (), "model_retries": 0, "parameters": {}})

    def emit(fact: object) -> None:
        if said := getattr(fact, "message", ""):
            notice(said)

    chain = open_models(once, dict.fromkeys(ROLES, model), Cancellation(), emit)
    return chain.model.complete(_request(model))
