"""Settings of models: for each role the names by which they are asked and parameters; and of memory."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from memory.records import LOCAL_USER
from memory.small_model import SMALL_MODEL, has_small_model
from orchestrator_cli.durable.places import user_name

RoleName = Literal["planner", "agent", "toolsmith", "reviser", "judge", "answer"]
DENSE_OFF = "off"
"""As `memory.dense`: no embedding model."""
ROLES: tuple[RoleName, ...] = get_args(RoleName)


def _model_id(name: str) -> str:
    if "://" in name:
        raise ValueError(f"{name!r} holds an address; name the model, and its server in OPENAI_BASE_URL")
    if not re.fullmatch(r"[!-~]+", name) or name.strip("/") != name:
        raise ValueError(f"{name!r} is no name of a model, such as anthropic/claude-sonnet-4-6")
    return name


ModelId = Annotated[str, AfterValidator(_model_id)]
"""LiteLLM's name of a model. An address in it would have requests and keys sent there."""


class RoleModels(BaseModel):
    """A model name per role. A role without one uses `model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    planner: ModelId | None = None
    agent: ModelId | None = None
    toolsmith: ModelId | None = None
    reviser: ModelId | None = None
    judge: ModelId | None = None
    """The model of the judge; by default that of the agent."""
    answer: ModelId | None = None
    agent_alternatives: tuple[ModelId, ...] = ()
    """Further models for agents. One that did clearly better at similar work is used instead."""


class ModelParameters(BaseModel):
    """Parameters of a role's requests; what is not set is left to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    """How much chance there is in the choice of words."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """The share of likely words to choose from."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """How much the model thinks before it answers."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The longest reply, in tokens, with thoughts."""
    preamble: str = Field(default="", max_length=10_000)
    """A text before everything else that the model is shown."""

    def over(self, others: "ModelParameters | None") -> "ModelParameters":
        """These, and those of `others` that are not set here."""
        return others.model_copy(update=self.model_dump(exclude_defaults=True)) if others else self


class MemorySettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """A Qdrant server, such as `http://localhost:6333`; without one, Qdrant Edge keeps the memory in the data
    folder."""
    api_key: str | None = None
    """The key of that server."""
    user: Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]{1,80}$")] | None = None
    """Who you are on that server, which several people may share; by default your name on this system."""
    workspaces: Literal["own", "all"] = "own"
    """Whether planners see runs and conversations of the workspace that they plan for, or of all of yours."""
    dense: ModelId | None = None
    """An embedding model by LiteLLM's name, such as `ollama/nomic-embed-text`. It is sent what is
    remembered and searched for. `off` has memory searched by words alone. By default the small model of
    the extra `meaning`, if that is installed; it works here and sends nothing."""

    @property
    def owner(self) -> str:
        """The user whose records are read and written. A folder has one owner and needs no name for them."""
        return LOCAL_USER if self.url is None else self.user or user_name()

    @property
    def dense_model(self) -> str | None:
        """The embedding model to use; None for none."""
        if self.dense is None:
            return SMALL_MODEL if has_small_model() else None
        return None if self.dense == DENSE_OFF else self.dense

    @property
    def provider_dense(self) -> str | None:
        """The embedding model if a provider has to be asked for its vectors."""
        return None if self.dense_model == SMALL_MODEL else self.dense_model
