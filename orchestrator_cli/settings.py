"""Every setting, with its default: flag > `ORCH_*` > `orch.toml` in the workspace > user file > default.

Each setting says what a workspace may do with it; `trust` has these rules and what a person has allowed.

This is the only module beside `environment` that reads environment variables.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args

import platformdirs
from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from orchestrator_cli.config_file import MAX_BYTES, read_config, with_whole_paths
from orchestrator_cli.data_folder import OwnFolder, check_absolute, check_owned, open_data_folder, own_places
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.held_folder import mark_of
from orchestrator_cli.durable.places import Places
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.event_settings import Hook, OtelSettings
from orchestrator_cli.mcp_files import USER_FILES, WORKSPACE_FILES, McpFiles, read_mcp_files
from orchestrator_cli.mcp_settings import McpServer, ServerName
from orchestrator_cli.model_settings import MemorySettings, ModelId, ModelParameters, RoleModels, RoleName
from orchestrator_cli.notify_settings import NotifySettings
from orchestrator_cli.process_settings import Process
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.trust import (
    Decide,
    TrustQuestion,
    allowed_before,
    check_place,
    find_wishes,
    folder_risks,
    refuse,
    shown_path,
)
from orchestrator_cli.trust_rules import Asked, FolderRule, Free, Lower, UserOnly, rule_of

Approval = Literal["plan", "tools", "network", "secrets", "packages", "writes", "executes", "effects"]
APPROVALS: tuple[Approval, ...] = get_args(Approval)
ASKED_ANYWAY: tuple[Approval, ...] = ("network", "secrets", "packages", "executes", "effects")
"""What the user is asked about unless they say `none`."""

MOST_FAULTS = 5
SEARCH_SERVICE = r"^([a-z_]{1,30}|https?://[^\s/?#@]+(/[^\s?#]*)?)$"
"""So many wrong settings are named in one message."""


class SettingsLayer(NamedTuple):
    """What one source sets, before it is joined with the others."""

    kind: Literal["flag", "environment", "workspace", "user"]
    values: Mapping[str, Any]
    file: Path | None = None


@dataclass(frozen=True)
class SettingsOrigin:
    """Where the settings of a command came from."""

    flags: frozenset[str] = frozenset()
    """The settings that the command line gives."""
    folder: frozenset[str] = frozenset()
    """The settings that the workspace's file gives, and nothing overrides."""
    left_out: TrustQuestion | None = None
    """What the workspace was not allowed, if the settings are without it."""
    notices: tuple[str, ...] = ()
    """What the user should know of MCP servers that other programs' files register; a line each."""
    layers: tuple[SettingsLayer, ...] = ()
    """The sources, the first of which that has a setting decides it; what is in none has its default."""
    mcp_places: Mapping[str, Path] = field(default_factory=dict)
    """The files of other programs that MCP servers come from."""
    mark: str = ""
    """Of the workspace that they are for, see `same_folder`; they count for no other folder at its path."""


class Settings(BaseSettings):
    """Every setting with its default. Build it with `load_settings`, which turns faults into clear errors."""

    model_config = SettingsConfigDict(
        env_prefix="ORCH_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )
    _origin: SettingsOrigin = PrivateAttr(default=SettingsOrigin())

    home: UserOnly[OwnFolder] = Field(default_factory=lambda: platformdirs.user_data_path("orch"))
    """All state: runs, built tools, memory, Prefect."""
    workspace: UserOnly[Path] = Path()
    """The folder that the work is about."""
    model: Asked[ModelId | None] = None
    """LiteLLM's name of the model, such as `anthropic/claude-sonnet-4-6` or `ollama_chat/qwen3`."""
    models: Asked[RoleModels] = RoleModels()
    """A model per role: planner, agent, toolsmith, reviser, judge, answer."""
    fallbacks: Asked[tuple[ModelId, ...]] = ()
    """Models tried in turn when a provider fails."""
    parameters: Asked[dict[RoleName, ModelParameters]] = Field(default_factory=dict)
    """Parameters of a role's requests, such as `{planner = {temperature = 0.2}}`; see docs/models.md."""
    vision_models: Free[tuple[ModelId, ...]] = ()
    """Models that see images, of which LiteLLM's list does not say so."""
    transcription_model: Asked[ModelId | None] = None
    """The model that writes down attached recordings, such as `openai/whisper-1`."""
    speech_model: Asked[ModelId | None] = None
    """The model that speaks answers for `--speak`, such as `openai/tts-1`."""
    speech_voice: Free[str] = "alloy"
    """The voice in which it speaks; which ones there are depends on the model."""
    show_images: Free[bool] = True
    """Show the images of a run after its answer, on a terminal that is known to draw them."""
    max_parallel: Lower[int] = Field(default=4, ge=1, le=64)
    """The most subtasks that run at once."""
    max_runs: UserOnly[int] = Field(default=12, ge=1, le=1000)
    """The most runs that work at once on one data folder; the others wait for their turn."""
    keep_runs_days: UserOnly[int | None] = Field(default=None, ge=1)
    """Runs that are over and older than so many days are removed by `orch up`; by default none are."""
    max_parallel_roles: Lower[dict[str, Annotated[int, Field(ge=1)]]] = Field(default_factory=dict)
    """Fewer of them for a role of agents, such as `{coder = 2}`."""
    max_parallel_models: Lower[dict[str, Annotated[int, Field(ge=1)]]] = Field(default_factory=dict)
    """At most so many calls of a model at once, such as `{"ollama_chat/qwen3" = 1}`."""
    max_subtasks: Lower[int] = Field(default=20, ge=1, le=500)
    """The most subtasks of a plan."""
    max_items: Lower[int] = Field(default=10_000, ge=1, le=100_000)
    """The most items of the list of a `for_each`."""
    max_steps: Lower[int] = Field(default=12, ge=1, le=100)
    """The most steps of an agent in one attempt."""
    context_tokens: Free[int | None] = Field(default=None, ge=1_000)
    """The longest prompt, in tokens, of a model that LiteLLM does not know; agents keep within it."""
    instruction_tokens: Lower[int] = Field(default=6_000, ge=0, le=100_000)
    """The most tokens of the project's instructions (`AGENTS.md`) in a request; with 0 they are not read."""
    max_skills: Lower[int] = Field(default=50, ge=0, le=500)
    """The most skills that are offered to models; with 0 none is looked for."""
    max_revisions: Lower[int] = Field(default=5, ge=0, le=50)
    """The most changes to the plan in one run."""
    revise: Free[Literal["auto", "always", "never"]] = "auto"
    """When the reviser is asked: after a failure or surprise, after every subtask, or never."""
    reuse: Free[Literal["auto", "never"]] = "auto"
    """Whether the plan of an earlier run that did well may be used again for a similar request."""
    max_cost: Lower[float | None] = Field(default=None, ge=0)
    """The most US dollars for one run."""
    allow_unpriced: Asked[bool] = False
    """With `max_cost`, also use models whose price is not known; their calls are not limited by it."""
    max_calls: Lower[int | None] = Field(default=200, ge=1)
    """The most model calls for one run."""
    max_tokens: Lower[int | None] = Field(default=None, ge=1)
    """The most tokens, sent and received, for one run."""
    timeout: Lower[float | None] = Field(default=None, gt=0, le=1e9)
    """The most seconds for one run."""
    model_timeout: Lower[float] = Field(default=180.0, gt=0, le=1e9)
    """The most seconds for one model call."""
    model_retries: Lower[int] = Field(default=2, ge=0, le=10)
    """How often a failed call is tried again."""
    approve: Annotated[tuple[Approval, ...], NoDecode, FolderRule.STRICTER] = ASKED_ANYWAY
    """What you are asked about before it happens; also plan, tools, writes, or all, or none."""
    yes: UserOnly[bool] = False
    """Whether every question is answered with yes."""
    processes: Asked[dict[str, Process]] = Field(default_factory=dict)
    """Your programs and Prefect flows that plans may run; see docs/processes.md."""
    allow_processes: UserOnly[tuple[str, ...]] = ()
    """Processes with effects that runs may start without asking, by name; an entry grants no other."""
    mcp: Asked[dict[ServerName, McpServer]] = Field(default_factory=dict)
    """MCP servers of others whose tools plans may use; see docs/mcp.md."""
    effects: Asked[Literal["ask", "retry", "skip"]] = "ask"
    """What to do with a process with effects that was started and may or may not have finished."""
    sandbox: Asked[Literal["auto", "bubblewrap", "landlock", "sandbox-exec"]] = "auto"
    """The backend in which code of a model runs."""
    network: Asked[tuple[str, ...]] = ()
    """Domains, with their subdomains, that code may reach without asking."""
    search: Asked[Annotated[str, Field(pattern=SEARCH_SERVICE)] | None] = None
    """What agents search the web with unasked: a provider such as `tavily`, or the address of a SearXNG."""
    secrets: Asked[tuple[str, ...]] = ()
    """Environment variables that tools may be given without asking, such as `WEATHER_KEY`."""
    packages: Asked[tuple[str, ...]] = ()
    """Packages that tools and coders may be given without asking, by name, such as `markdown`."""
    workspace_max_mb: Lower[int] = Field(default=512, ge=1)
    """The largest workspace, in MB, that is copied for a subtask."""
    commit_max_mb: Lower[int] = Field(default=1024, ge=1)
    """The most MB that one attempt may write into the workspace; sparse files count at their full length."""
    commit_max_files: Lower[int] = Field(default=20_000, ge=1)
    """The most files, links and folders that one attempt may change in the workspace."""
    allow_protected: Asked[tuple[str, ...]] = ()
    """Protected names, such as `.env.example`, that subtasks may read and change anyway."""
    memory: Asked[MemorySettings] = MemorySettings()
    remember: Asked[Literal["auto", "rules", "never"]] = "auto"
    """How facts about you are found when a session ends: by a model call, by rules only, or never."""
    remember_wait: Lower[float] = Field(default=5.0, gt=0, le=60)
    """Seconds that the end of a session waits for that call before rules replace it."""
    conversation_tokens: Lower[int] = Field(default=4_000, ge=200)
    """The most tokens of a session's conversation in a request; older turns are shortened."""
    notify: UserOnly[NotifySettings] = NotifySettings()
    """When and how you are notified; see docs/notifications.md."""
    hooks: UserOnly[tuple[Hook, ...]] = ()
    """Programs of yours that are started at events of a run; see docs/events.md."""
    otel: UserOnly[OtelSettings] = OtelSettings()
    """Where spans of runs are sent; see docs/events.md."""
    prefect_api_url: UserOnly[str | None] = Field(default=None, validation_alias="PREFECT_API_URL")
    """A Prefect server of your own; without one, a local one is kept running."""
    prefect_home: UserOnly[OwnFolder | None] = None
    """Where the local Prefect server keeps its data; by default below `home`."""
    resident: UserOnly[Literal["auto", "never", "always"]] = "auto"
    """Whether commands are forked from a process that stays, and so start at once; see docs/resident.md."""
    prefect_idle_minutes: UserOnly[float] = Field(default=60.0, gt=0)
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
    def own_places(self) -> tuple[Path, ...]:
        """What `orch` itself trusts, there or not: its state and your settings."""
        return own_places(self.home, self.prefect_home, user_file())

    @property
    def sandbox_verdicts(self) -> Path:
        """Where it is kept which sandbox works."""
        return self.home / "sandbox.json"

    @property
    def origin(self) -> SettingsOrigin:
        return self._origin

    def set_by(self, name: str) -> str:
        """What to add to a message about a limit that the workspace's file sets; else empty."""
        return (
            f" {shown_path(self.workspace / 'orch.toml')} sets {name}." if name in self.origin.folder else ""
        )

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


def load_settings(
    flags: Mapping[str, Any], workspace: Path, decide: Decide = refuse, mark: str = ""
) -> Settings:
    """The settings of one command. A flag that is None was not given.

    Args:
        decide: is asked about what a person has not allowed the workspace; by default that is an error.
        mark: of the folder that the workspace has to be, if it was named before.

    Raises `ConfigError` naming the file or variable and the field, and `FolderReplaced`.
    """
    mark = mark or mark_of(workspace)
    given = {name: value for name, value in flags.items() if value is not None}
    folder = read_folder(workspace, given.get("home"))
    left_out, theirs = None, folder.values
    if folder.question.is_needed and not decide(folder.question):
        left_out = folder.question
        theirs = {} if left_out.fault else _without_wishes(folder.values, left_out)
    files = ({folder.question.file: theirs} if theirs else {}) | folder.yours
    settings = _build({**given, "workspace": workspace}, files)
    environment = EnvSettingsSource(Settings)()
    stronger = given.keys() | environment.keys()
    notices = (*folder.faults, *([left_out.optional_words] if left_out and left_out.is_optional else []))
    settings._origin = SettingsOrigin(
        frozenset(given),
        frozenset(theirs.keys() - stronger),
        left_out,
        tuple(notices),
        layers=(
            SettingsLayer("flag", given),
            SettingsLayer("environment", environment),
            SettingsLayer("workspace", theirs, folder.question.file),
            *(SettingsLayer("user", values, file) for file, values in folder.yours.items()),
        ),
        mcp_places=folder.mcp_places,
        mark=mark,
    )
    check_same(workspace, mark)
    return settings


class Folder(NamedTuple):
    """The settings that a workspace and its user have, and what has to be asked about them."""

    question: TrustQuestion
    values: dict[str, Any]
    """What the workspace's file sets."""
    yours: dict[Path, dict[str, Any]]
    """What the user's own file sets."""
    faults: tuple[str, ...] = ()
    """What other programs' files register and cannot be used."""
    mcp_places: Mapping[str, Path] = MappingProxyType({})
    """The files of other programs that servers come from."""


def _without_wishes(values: Mapping[str, Any], question: TrustQuestion) -> dict[str, Any]:
    """What a workspace sets, without what was not allowed."""
    if question.is_optional:
        kept = {name: row for name, row in values["mcp"].items() if f"mcp.{name}" not in question.open_names}
        others = {name: value for name, value in values.items() if name != "mcp"}
        return others | ({"mcp": kept} if kept else {})
    asked = {wish.name.partition(".")[0] for wish in question.wishes}
    return {name: value for name, value in values.items() if name not in asked}


def read_folder(workspace: Path, home: Path | None = None) -> Folder:
    """Read both files, each once. Raises `ConfigError` if the user's own file or data folder is wrong."""
    place, own = workspace / "orch.toml", user_file()
    check_owned(own)
    yours = {own: read_config(own)[1]} if own.is_file() else {}
    for name in USER_FILES:
        check_owned(own.parent / name)
    others = read_mcp_files(own.parent, USER_FILES, _servers_of(yours.get(own, {})))
    if others.servers:
        mine = dict(yours.get(own, {}))
        yours[own] = mine | {"mcp": {**others.servers, **_servers_of(mine)}}
    fixed: dict[str, Any] = {"workspace": workspace, **({"home": home} if home else {})}
    without = _build(fixed, yours)
    open_data_folder(without.home)
    if without.prefect_home is not None:
        check_owned(without.prefect_home)
    root, places = workspace.resolve(), Places(without.own_places)
    content, values, fault, wishes = b"", dict[str, Any](), None, folder_risks(root, places)
    theirs = McpFiles()
    try:
        check_place(root, places)
        if place.is_file() and place.resolve() != own.resolve():
            content, values = read_config(place, MAX_BYTES)
            _refuse_user_only(place, values)
        theirs = read_mcp_files(workspace, WORKSPACE_FILES, (*without.mcp, *_servers_of(values)))
        if theirs.servers:
            values = {**values, "mcp": {**_servers_of(values), **theirs.servers}}
        if values:
            values = with_whole_paths(values, root)
            found = find_wishes(_build(fixed, {place: values, **yours}), without)
            wishes += tuple(map(theirs.marked, found))
    except ConfigError as exc:
        fault = exc
    question = TrustQuestion(
        workspace=root,
        home=without.home,
        file=place,
        sha256=hashlib.sha256(content).hexdigest(),
        wishes=wishes,
        fault=fault,
        before=allowed_before(without.home, root),
        places=theirs.places,
    )
    mcp_places = {**others.places, **theirs.places}
    return Folder(question, values, yours, (*others.faults, *theirs.faults), mcp_places)


def _servers_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    found = values.get("mcp")
    return found if isinstance(found, dict) else {}


def check_user_values(values: Mapping[str, Any], file: Path) -> Settings:
    """What the user's own file alone sets. Raises `ConfigError`, by the rules for every file of settings.

    Without the environment, which would hide a wrong value that it overrides.
    """
    return _build_from((InitSettingsSource(Settings, dict(values)),), str(file))


def variable_of(parts: Sequence[str]) -> str:
    """The environment variable that gives a setting, by the parts of its name; empty if none does."""
    alias = Settings.model_fields[parts[0]].validation_alias
    names = ["__".join(("ORCH_" + parts[0], *parts[1:n])) for n in range(len(parts), 0, -1)]
    if isinstance(alias, str):
        names = [alias]
    present = EnvSettingsSource(Settings).env_vars
    return next((name.upper() for name in names if present.get(name.lower())), "")


def _build(given: Mapping[str, Any], files: Mapping[Path, Mapping[str, Any]]) -> Settings:
    sources: tuple[PydanticBaseSettingsSource, ...] = (
        InitSettingsSource(Settings, dict(given)),
        EnvSettingsSource(Settings),
        *(InitSettingsSource(Settings, dict(values)) for values in files.values()),
    )
    return _build_from(sources, ", ".join(["the flags", "ORCH_* in the environment", *map(str, files)]))


def _build_from(sources: tuple[PydanticBaseSettingsSource, ...], read: str) -> Settings:
    try:
        return Settings(_build_sources=(sources, {}))
    except ValidationError as exc:
        faults = "; ".join(
            f"{foreign_line('.'.join(map(str, e['loc'])), 100)}: {foreign_line(e['msg'], 300)}"
            for e in exc.errors(include_url=False)[:MOST_FAULTS]
        )
        if exc.error_count() > MOST_FAULTS:
            faults += f"; and {exc.error_count() - MOST_FAULTS:,} more"
        message = f"A setting is wrong: {faults} (read from {read})"
        raise ConfigError(message, "Correct it, or remove it to use the default.") from exc


def user_file() -> Path:
    """The user's own configuration file. `ORCH_HOME` moves it, as it moves everything else."""
    home = os.environ.get("ORCH_HOME")
    folder = Path(home) if home else platformdirs.user_config_path("orch")
    check_absolute(folder, "ORCH_HOME" if home else "XDG_CONFIG_HOME")
    return folder / "orch.toml"


def _refuse_user_only(path: Path, names: Iterable[str]) -> None:
    """Raise `ConfigError` if the file of a workspace sets what no workspace can set."""
    # Prefect's own spelling of the address counts too.
    known = {name.lower() for name in names} & Settings.model_fields.keys()
    if taken := sorted(name for name in known if rule_of(Settings, name) is FolderRule.USER_ONLY):
        raise ConfigError(
            f"{shown_path(path)} sets {', '.join(taken)}, which no workspace can set.",
            f"Remove it there, or set it in your own file, {user_file()}.",
        )
