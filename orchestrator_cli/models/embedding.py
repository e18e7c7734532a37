"""A model of embeddings, asked through LiteLLM: texts to vectors, within what a run may spend.

One try each, with a short time limit: whoever asks can do without vectors for now. Within a run each call is
admitted and counted by its meter; outside of one, `used` says what the calls came to.

What is not covered: models that want to be told whether a text is a question or a document.
"""

from collections.abc import Sequence

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.model import Embedded, PassingFault, Request, embed, prepare, quote_embedding
from orchestrator_cli.usage import Usage

ROLE = "memory"
"""For whom such calls are made, as events tell it."""
WAIT_S = 20.0


class Embedding:
    """The model `name`. `meter` is that of the run within which it is asked."""

    def __init__(
        self, name: str, cancellation: Cancellation, meter: MeteredModel | None = None, wait_s: float = WAIT_S
    ) -> None:
        self._name = name
        self._cancellation = cancellation
        self._meter = meter
        self._wait_s = wait_s
        self.used = Usage()

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector for each text. Raises `ProviderError`, `LimitReached`, and what ends the run."""
        messages = tuple({"role": "user", "content": text} for text in texts)
        request = Request(role=ROLE, model=self._name, messages=messages)
        # The import takes seconds, and is no fault of the provider.
        self._cancellation.waiting_for(lambda: prepare(tools=False))
        if self._meter is not None:
            answer = self._meter.embed(request, quote_embedding, lambda: self._ask(request))
        else:
            answer = self._ask(request)
        self.used += answer.usage
        return answer.vectors

    def _ask(self, request: Request) -> Embedded:
        late = PassingFault(f"{self._name} made no vectors within {self._wait_s:g} s.", unsure=True)
        with self._cancellation.limited(self._wait_s, lambda: late) as limited:
            return limited.waiting_for(lambda: embed(request, self._wait_s))
