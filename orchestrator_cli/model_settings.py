"""Settings of models: the names by which they are asked, for each role."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

ROLES = ("planner", "agent", "toolsmith", "reviser", "judge", "answer")


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
