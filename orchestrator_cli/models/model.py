"""What a model is asked and what it answers: values, and the protocol that every model fulfils."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.foreign import as_data, on_one_line
from orchestrator_cli.errors import ProviderError
from orchestrator_cli.model_settings import ModelParameters
from orchestrator_cli.values import AttachedFile, Usage

Message = dict[str, Any]
OnDelta = Callable[[str], None]


def with_images(text: str, files: Iterable[AttachedFile]) -> Message:
    """A user's message with the images among the files after its text, each under its name."""
    images = [file for file in files if file.image]
    if not images:
        return {"role": "user", "content": text}
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for file in images:
        parts.append({"type": "text", "text": f"{on_one_line(as_data(file.name))}:"})
        parts.append({"type": "image_url", "image_url": {"url": file.image}})
    return {"role": "user", "content": parts}


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
    parameters: ModelParameters = ModelParameters()
    """Override those of `role`; an agent's role file can have some."""
    max_tokens: int | None = None
    """The longest reply, in tokens; None leaves it to the model."""
    reply_schema: dict[str, JsonValue] | None = None
    """The JSON Schema of the object that the reply should be, for models that take one. A wish: the reply is
    checked as if it had not been sent."""


def has_images(request: ModelRequest) -> bool:
    """Whether a request sends images."""
    contents = (message.get("content") for message in request.messages)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(part.get("type") == "image_url" for part in parts)


FinishReason = Literal["stop", "length", "time", "tool_calls", "content_filter", "refusal", "repetition", ""]
"""Why a reply ended; empty if that is unknown.

`length`: it met a limit or the end of the context. `repetition`: it repeated itself, and was cut here.
"""


class Completion(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    """Without the model's thoughts."""
    reasoning: str = ""
    """Its thoughts, as far as it gives them. Shown to no model and never executed."""
    finish_reason: FinishReason = ""
    refusal: str = ""
    """Why the model declines, if it says so apart from the text."""
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
