"""Every setting, with its default: flag > `ORCH_*` > `orch.toml` in the workspace > user file > default.

This is the only module that reads TOML, and the only one beside `environment` that reads environment
variables.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from orchestrator_cli.errors import ConfigError

Approval = Literal["plan", "tools", "network", "secrets", "packages", "writes", "executes", "effects"]
APPROVALS: tuple[Approval, ...] = get_args(Approval)
ASKED_ANYWAY: tuple[Approval, ...] = ("network", "secrets", "packages", "executes", "effects")
"""What the user is asked about unless they say `none`."""

ROLES = ("planner", "agent", "toolsmith", "reviser", "judge", "answer")


class RoleModels(BaseModel):
    """A model name per role. A role without one uses `model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    planner: str | None = None
    agent: str | None = None
    toolsmith: str | None = None
    reviser: str | None = None
    judge: str | None = None
    """The model of the judge; by default that of the agent."""
    answer: str | None = None
    agent_alternatives: tuple[str, ...] = ()
    """Further models for agents. One that did clearly better at similar work is used instead."""


class Process(BaseModel):
    """A program or a Prefect flow of the user's, which plans may run: `[processes.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it does and when to use it; the planner reads this."""
    command: tuple[str, ...] = ()
    """The program and its arguments; no shell reads them."""
    flow: str | None = None
    """Instead of a command, a Prefect flow: `path/to/file.py:function`."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of its input: an object, on standard input or as the flow's parameters."""
    result: dict[str, JsonValue] | None = None
    """JSON Schema of its value."""
    effects: bool = True
    """Whether it does something outside the workspace that must not happen twice by accident."""
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds for one attempt, whatever the plan says."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Process":
        if bool(self.command) == bool(self.flow):
            raise ValueError("give it either a command or a flow")
        if self.flow is not None and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", self.flow):
            raise ValueError(f"{self.flow!r} is not a flow: write path/to/file.py:function")
        for schema in (self.inputs, self.result):
            if schema is not None:
                check_schema(schema)
        return self


class McpServer(BaseModel):
    """A server of the Model Context Protocol, whose tools plans may use: `[mcp.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it is for and when to use it; you read this when you are asked about the server."""
    command: tuple[str, ...] = ()
    """The program and its arguments, which uses standard input and output; no shell reads them."""
    url: str | None = None
    """Instead of a command, the address of a server that speaks streamable HTTP."""
    env: tuple[str, ...] = ()
    """Environment variables that it is given; for a `url`, the one with its bearer token."""
    tools: tuple[str, ...] | None = None
    """Use only these of its tools, by their own names; default: all."""
    effects: bool = True
    """Whether its calls do something that must not happen twice by accident."""
    timeout_s: float = Field(default=60.0, gt=0, le=3_600)
    """Seconds for one call."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "McpServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give it either a command or a url")
        if self.url is not None and not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", self.url):
            raise ValueError(f"{self.url!r} is not an http or https address without a password")
        if self.url is not None and len(self.env) > 1:
            raise ValueError("env: a url takes one variable, which holds its bearer token")
        return self


def check_schema(schema: dict[str, JsonValue]) -> None:
    """Raise `ValueError` if `schema` is not a JSON Schema."""
    import jsonschema  # a tenth of a second, for those who have processes

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as exc:
        raise ValueError(f"it is not a JSON Schema: {exc.message}") from exc


class MemorySettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """A Qdrant server; without one, Qdrant Edge keeps the memory in the data folder."""
    api_key: str | None = None
    dense: str | None = None
    """A model of embeddings by LiteLLM's name, such as `ollama/nomic-embed-text`. It is sent what is
    remembered and searched for. Without one, memory is searched by words alone."""


@dataclass(frozen=True)
class SettingsOrigin:
    """Where the settings of a command came from."""

    flags: frozenset[str] = frozenset()
    """The settings that the command line gives."""
    foreign_processes: frozenset[str] = frozenset()
    """Processes that an untrusted workspace registers. Others may have written them, so orch always asks."""
    foreign_servers: frozenset[str] = frozenset()
    """The same for MCP servers."""


class Settings(BaseSettings):
    """Every setting with its default. Build it with `load_settings`, which turns faults into clear errors."""

    model_config = SettingsConfigDict(
        env_prefix="ORCH_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )
    _origin: SettingsOrigin = PrivateAttr(default=SettingsOrigin())

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("orch"))
    """All state: runs, built tools, memory, Prefect."""
    workspace: Path = Path()
    """The folder that the work is about."""

    model: str | None = None
    """LiteLLM's name of the model, such as `anthropic/claude-sonnet-4-6` or `ollama_chat/qwen3`."""
    models: RoleModels = RoleModels()
    """A model per role: planner, agent, toolsmith, reviser, judge, answer."""
    fallbacks: tuple[str, ...] = ()
    """Models tried in turn when a provider fails."""

    max_parallel: int = Field(default=4, ge=1, le=64)
    """The most subtasks that run at once."""
    max_parallel_roles: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Fewer of them for a role of agents, such as `{coder = 2}`."""
    max_parallel_models: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """At most so many calls of a model at once, such as `{"ollama_chat/qwen3" = 1}`."""
    max_subtasks: int = Field(default=20, ge=1, le=500)
    """The most subtasks of a plan."""
    max_steps: int = Field(default=12, ge=1, le=100)
    """The most steps of an agent in one attempt."""
    max_revisions: int = Field(default=5, ge=0, le=50)
    """The most changes to the plan in one run."""
    revise: Literal["auto", "always", "never"] = "auto"
    """When the reviser is asked: after a failure or surprise, after every subtask, or never."""
    reuse: Literal["auto", "never"] = "auto"
    """Whether the plan of an earlier run that did well may be used again for a similar request."""
    max_cost: float | None = Field(default=None, ge=0)
    """The most US dollars for one run."""
    allow_unpriced: bool = False
    """With `max_cost`, also use models whose price is not known; their calls are not limited by it."""
    max_calls: int | None = Field(default=200, ge=1)
    """The most model calls for one run."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens, sent and received, for one run."""
    timeout: float | None = Field(default=None, gt=0)
    """The most seconds for one run."""
    model_timeout: float = Field(default=180.0, gt=0)
    """The most seconds for one model call."""
    model_retries: int = Field(default=2, ge=0, le=10)
    """How often a failed call is tried again."""

    approve: Annotated[tuple[Approval, ...], NoDecode] = ASKED_ANYWAY
    """What you are asked about before it happens; also plan, tools, writes, or all, or none."""
    trusted: tuple[Path, ...] = ()
    """Workspaces whose `orch.toml` may set what is yours to allow, such as `network` and `approve`."""
    yes: bool = False
    """Whether every question is answered with yes."""

    processes: dict[str, Process] = Field(default_factory=dict)
    """Your programs and Prefect flows that plans may run; see docs/processes.md."""
    mcp: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")], McpServer] = Field(
        default_factory=dict
    )
    """MCP servers of others whose tools plans may use; see docs/mcp.md."""
    effects: Literal["ask", "retry", "skip"] = "ask"
    """What to do with a process with effects that was started and may or may not have finished."""

    sandbox: Literal["auto", "bubblewrap", "landlock", "sandbox-exec"] = "auto"
    """The backend in which code of a model runs."""
    network: tuple[str, ...] = ()
    """Domains, with their subdomains, that code may reach without asking."""
    secrets: tuple[str, ...] = ()
    """Environment variables that tools may be given without asking, such as `WEATHER_KEY`."""
    packages: tuple[str, ...] = ()
    """Packages that tools may be given without asking, by name, such as `markdown`."""
    workspace_max_mb: int = Field(default=512, ge=1)
    """The largest workspace, in MB, that is copied for a subtask."""

    commit_max_mb: int = Field(default=1024, ge=1)
    """The most MB that one attempt may write into the workspace; sparse files count at their full length."""
    commit_max_files: int = Field(default=20_000, ge=1)
    """The most files, links and folders that one attempt may change in the workspace."""

    allow_protected: tuple[str, ...] = ()
    """Protected names, such as `.env.example`, that subtasks may read and change anyway."""

    memory: MemorySettings = MemorySettings()
    remember: Literal["auto", "rules", "never"] = "auto"
    """How facts about you are found when a session ends: by a model call, by rules only, or never."""
    remember_wait: float = Field(default=5.0, gt=0, le=60)
    """Seconds that the end of a session waits for that call before rules replace it."""
    conversation_tokens: int = Field(default=4_000, ge=200)
    """The most tokens of a session's conversation in a request; older turns are shortened."""
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")
    """A Prefect server of your own; without one, a local one is kept running. No workspace can set it."""
    prefect_home: Path | None = None
    """Where the local Prefect server keeps its data; by default below `home`."""
    prefect_idle_minutes: float = Field(default=60.0, gt=0)
    """Minutes without a request after which the local Prefect server stops."""

    @field_validator("approve", mode="before")
    @classmethod
    def _kinds(cls, value: object) -> object:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        return approvals(value) if isinstance(value, list | tuple) else value

    @field_validator("sandbox", mode="before")
    @classmethod
    def _supported_backend(cls, value: object) -> object:
        if value in ("docker", "podman"):
            raise ValueError(f"the backend {value} is not supported; use auto, bubblewrap or landlock")
        return value

    @property
    def origin(self) -> SettingsOrigin:
        return self._origin

    def model_for(self, role: str) -> str | None:
        """The model of a role; None if none is set."""
        own: str | None = getattr(self.models, role)
        return own or (self.models.agent if role == "judge" else None) or self.model

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Models that agents may use besides their own; none if the command line names their model."""
        named = "model" in self.origin.flags and self.models.agent is None
        return () if named else self.models.agent_alternatives


def approvals(names: Iterable[object]) -> tuple[Approval, ...]:
    """The kinds of approval that `names` stand for. Only `none` leaves out what is asked about by default.

    Raises `ValueError` with all the names there are.
    """
    given = [str(name).strip() for name in names]
    if wrong := [name for name in given if name not in (*APPROVALS, "all", "none")]:
        raise ValueError(f"{', '.join(map(repr, wrong))}: say {', '.join(APPROVALS)}, all or none")
    if "all" in given:
        return APPROVALS
    default = () if "none" in given or not given else ASKED_ANYWAY
    return tuple(kind for kind in APPROVALS if kind in given or kind in default)


def load_settings(flags: Mapping[str, Any], workspace: Path) -> Settings:
    """The settings of one command. A flag that is None was not given.

    Raises `ConfigError` naming the file or variable and the field.
    """
    theirs, yours = workspace / "orch.toml", user_file()
    files = {path: _read_toml(path) for path in (theirs, yours) if path.is_file()}
    given = {name: value for name, value in flags.items() if value is not None}
    origin = SettingsOrigin(flags=frozenset(given))
    if theirs in files and theirs != yours and not _is_trusted(workspace, files.get(yours, {})):
        _refuse_user_settings(theirs, files[theirs])
        origin = SettingsOrigin(
            flags=origin.flags,
            foreign_processes=frozenset(files[theirs].get("processes", ())),
            foreign_servers=frozenset(files[theirs].get("mcp", ())),
        )
    sources: tuple[PydanticBaseSettingsSource, ...] = (
        InitSettingsSource(Settings, {**given, "workspace": workspace}),
        EnvSettingsSource(Settings),
        *(TomlConfigSettingsSource(Settings, path) for path in files),
    )
    try:
        settings = Settings(_build_sources=(sources, {}))
    except ValidationError as exc:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())
        read = ", ".join(["the flags", "ORCH_* in the environment", *map(str, files)])
        raise ConfigError(
            f"A setting is wrong: {faults} (read from {read})",
            "Correct it, or remove it to use the default.",
        ) from exc
    settings._origin = origin
    return settings


def user_file() -> Path:
    """The user's own configuration file. `ORCH_HOME` moves it, as it moves everything else."""
    home = os.environ.get("ORCH_HOME")
    return (Path(home) if home else platformdirs.user_config_path("orch")) / "orch.toml"


YOURS = (
    *("secrets", "packages", "yes", "trusted", "network", "approve", "effects"),
    *("allow_protected", "home", "memory", "remember", "prefect_home", "prefect_api_url"),
)
"""What only the user may set: others may have written the files of a workspace."""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", "Correct the file, or move it away.") from exc


def _is_trusted(workspace: Path, yours: Mapping[str, Any]) -> bool:
    """Whether the user's own file lists this workspace as trusted."""
    named = yours.get("trusted", ())
    paths = [Path(path).expanduser() for path in named if isinstance(path, str)]
    return workspace.resolve() in [path.resolve() for path in paths if path.is_absolute()]


def _refuse_user_settings(path: Path, values: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if the file of a workspace sets what only its user may set."""
    # Prefect's own spelling of the address counts too.
    names = {name.lower() for name in values}
    if taken := [name for name in YOURS if name in names]:
        raise ConfigError(
            f"{path} sets {', '.join(taken)}, which no workspace can set for you.",
            f"If you have read that file and trust it, add {str(path.parent.resolve())!r} to `trusted` in "
            f"{user_file()}. Otherwise remove it there, or set it in your own file.",
        )
