"""What model calls cost."""

from pydantic import BaseModel, ConfigDict


class Usage(BaseModel):
    """`cost` is in US dollars over the calls with a known price; `unpriced` counts the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=self.cost + other.cost,
            unpriced=self.unpriced + other.unpriced,
        )
