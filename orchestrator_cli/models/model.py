"""What a model is asked and what it answers: values, and the protocol that every model fulfils."""

from collections.abc import Callable
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ProviderError
from orchestrator_cli.values import Usage

Message = dict[str, Any]
OnDelta = Callable[[str], None]


class ToolCall(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ModelRequest(BaseModel):
    """One model call. `role` chooses the model; `role` and `subject` name the call in events."""

    model_config = ConfigDict(frozen=True)

    role: str
    subject: str = ""
    """The subtask or tool; empty if the call concerns the whole run."""
    model: str | None = None
    """Overrides the model of `role`; an agent's role file can name one."""
    messages: tuple[Message, ...]
    tools: tuple[dict[str, JsonValue], ...] = ()
    """OpenAI's function schemas."""
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    """The longest reply, in tokens; None leaves it to the model."""


class Completion(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    model: str
    usage: Usage
    seconds: float = 0.0


class Embeddings(BaseModel):
    """One vector for each text of a request, in the same order."""

    model_config = ConfigDict(frozen=True)

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage
    seconds: float = 0.0


class Model(Protocol):
    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        """Answer one request; `on_delta` receives pieces of the text as they arrive.

        `cancellation`: of one attempt, if narrower than the run's. Raises `ProviderError`, or the
        reason of the cancellation.
        """
        ...


class TransientError(ProviderError):
    """A provider's failure that may not recur when the call is retried.

    Args:
        unsure: the provider may have answered in part, and may bill it.
        retry_after: seconds that the provider asks to wait.
    """

    def __init__(
        self, message: str, remedy: str = "", *, unsure: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, remedy)
        self.unsure = unsure
        self.retry_after = retry_after
