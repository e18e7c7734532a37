"""What model calls cost."""

from pydantic import BaseModel, ConfigDict


class Usage(BaseModel):
    """`cost` is in US dollars over the calls with a known price; `unpriced` counts the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = 0
    """Those that were answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    failed: int = 0
    """Tries of a call that were not answered."""
    unsure_tokens: int = 0
    """What those of them whose reply was late or cut may have used at most, where a limit needed to know."""
    unsure_cost: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})
