"""Roles of agents: Markdown files with front matter, built in and the user's own.

    ---
    name: translator
    when: translates text; for anything that has to be in another language.
    agent: tools          # or code
    model: openai/gpt-5-mini   # optional
    parameters: {temperature: 0.2}   # optional
    ---
    Instructions for the agent.

The user's own are in `roles/` of the data folder and replace built-in roles of the same name.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import frontmatter
import yaml
from frontmatter.default_handlers import YAMLHandler
from pydantic import ValidationError

from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.durable.yaml_text import read_yaml
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.model_settings import ModelId, ModelParameters
from orchestrator_cli.plan import FrozenModel
from orchestrator_cli.planning.planner import RoleCard


class Role(FrozenModel):
    name: str
    when: str
    """When a planner should choose it."""
    agent: Literal["code", "tools"]
    """`code` writes Python in the sandbox; `tools` calls tools."""
    model: ModelId | None = None
    parameters: ModelParameters = ModelParameters()
    """Override those of the settings for agents."""
    instructions: str = ""

    @property
    def card(self) -> RoleCard:
        return RoleCard(name=self.name, when=self.when, agent=self.agent, model=self.model)


def load_roles(home: Path) -> dict[str, Role]:
    """All roles by name. Raises `ConfigError` naming the file."""
    return {role.name: role for role, _ in _read(home)}


def role_files(home: Path) -> dict[str, Path | None]:
    """The file of each role of the user's own; None for a role that is built in. Raises as `load_roles`."""
    return {role.name: path for role, path in _read(home)}


def _read(home: Path) -> Iterator[tuple[Role, Path | None]]:
    """Each role with the user's file that it is from; a later one replaces one of the same name."""
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".md"):
            yield parse_role(entry.name, entry.read_text(encoding="utf-8")), None
    for path in sorted((home / "roles").glob("*.md")):
        try:
            text = read_regular(path).decode("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"The role file {path} cannot be read: {exc}", "Mend or remove it.") from exc
        yield parse_role(str(path), text), path


def askable(
    roles: Mapping[str, Role], missing: Callable[[str], str]
) -> tuple[dict[str, Role], dict[str, Role]]:
    """The roles to use, and those whose own model cannot be asked.

    `missing` returns what a model lacks, or "". Such a role loses its model, and uses that of other agents.
    """
    lost = {name: role for name, role in roles.items() if role.model and missing(role.model)}
    return {**roles, **{name: role.model_copy(update={"model": None}) for name, role in lost.items()}}, lost


class _FrontMatter(YAMLHandler):
    def load(self, fm: str, **_: Any) -> Any:
        return read_yaml(fm)


def parse_role(name: str, text: str) -> Role:
    try:
        post = frontmatter.loads(text, handler=_FrontMatter())
        return Role(**{"instructions": post.content.strip()} | post.metadata)
    except (yaml.YAMLError, ValidationError, TypeError) as exc:
        first = str(exc).splitlines()[0]
        raise ConfigError(
            f"The role file {name} is wrong: {first}",
            "It needs name, when and agent (code or tools) between two lines of ---.",
        ) from exc
