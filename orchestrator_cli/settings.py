"""What can be set, and where from: flag > `ORCH_*` > `orch.toml` in the workspace > user file > default.

This is the only module that reads the environment and TOML. `PREFECT_API_URL` is honoured
where the user has set it; the keys of model providers are looked for only when no model is set,
and only by name: their values go from the environment to the provider's library, never through here.
"""

import json
import os
import re
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from orchestrator_cli.default_models import FAMILIES, Choice, default_model
from orchestrator_cli.errors import ConfigError

Approval = Literal["plan", "tools", "network", "secrets", "packages", "writes", "effects"]
APPROVALS: tuple[Approval, ...] = get_args(Approval)
ASKED_ANYWAY: tuple[Approval, ...] = ("network", "secrets", "packages", "effects")
"""What is asked about unless the user says `none`."""

ROLES = ("planner", "agent", "toolsmith", "reviser", "judge", "answer")


class Models(BaseModel):
    """A model name per role; what is not set is `model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    planner: str | None = None
    agent: str | None = None
    toolsmith: str | None = None
    reviser: str | None = None
    judge: str | None = None
    """The model of the judge; by default that of the agent."""
    answer: str | None = None
    agent_alternatives: tuple[str, ...] = ()
    """Further models for agents: one that did such work clearly better than theirs is asked instead."""


class Process(BaseModel):
    """A program or a Prefect flow of the user's, which plans may run: `[processes.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it does and when to use it, for the planner."""
    command: tuple[str, ...] = ()
    """The program and its arguments; no shell reads them."""
    flow: str | None = None
    """Instead of a command, a Prefect flow: `path/to/file.py:function`."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of what it is given: an object, on standard input or as the flow's parameters."""
    result: dict[str, JsonValue] | None = None
    """JSON Schema of its value."""
    effects: bool = True
    """Whether it does something outside the workspace that must not be done twice by accident."""
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds for one attempt, whatever the plan says."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Process":
        if bool(self.command) == bool(self.flow):
            raise ValueError("give it either a command or a flow")
        if self.flow is not None and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", self.flow):
            raise ValueError(f"{self.flow!r} is no flow: write path/to/file.py:function")
        for schema in (self.inputs, self.result):
            if schema is not None:
                check_schema(schema)
        return self


class McpServer(BaseModel):
    """A server of the Model Context Protocol, whose tools plans may use: `[mcp.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it is for and when to use it; you read it where you are asked about the server."""
    command: tuple[str, ...] = ()
    """The program and its arguments, which speaks on standard input and output; no shell reads them."""
    url: str | None = None
    """Instead of a command, the address of a server that speaks streamable HTTP."""
    env: tuple[str, ...] = ()
    """Variables of your environment that it is given; of a `url` the one that holds its bearer token."""
    tools: tuple[str, ...] | None = None
    """Only these of its tools, by its own names; without it all of them."""
    effects: bool = True
    """Whether its calls do something that must not be done twice by accident."""
    timeout_s: float = Field(default=60.0, gt=0, le=3_600)
    """Seconds for one call."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "McpServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give it either a command or a url")
        if self.url is not None and not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", self.url):
            raise ValueError(f"{self.url!r} is no http or https address without a password")
        if self.url is not None and len(self.env) > 1:
            raise ValueError("env: a url takes one variable, which holds its bearer token")
        return self


def check_schema(schema: dict[str, JsonValue]) -> None:
    """Raise `ValueError` where something is no JSON Schema."""
    import jsonschema  # a tenth of a second, for those who have processes

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as exc:
        raise ValueError(f"it is no JSON Schema: {exc.message}") from exc


class MemorySettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """A Qdrant server; without one, Qdrant Edge keeps the memory in the data folder."""
    api_key: str | None = None
    dense: str | None = None
    """A model of embeddings by LiteLLM's name, such as `ollama/nomic-embed-text`, which is sent what is
    remembered and looked for; without one, memory is searched by words alone."""


class Settings(BaseSettings):
    """Every setting with its default. Build it with `load_settings`, which turns faults into clear errors."""

    model_config = SettingsConfigDict(
        env_prefix="ORCH_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )
    toml_files: ClassVar[tuple[Path, ...]] = ()
    foreign: ClassVar[frozenset[str]] = frozenset()
    """Processes that the workspace registers, which somebody else may have written: always asked about."""
    foreign_servers: ClassVar[frozenset[str]] = frozenset()
    """The same for MCP servers."""
    flags: ClassVar[frozenset[str]] = frozenset()
    """What was said on the command line."""

    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("orch"))
    """All state: runs, built tools, memory, Prefect."""
    workspace: Path = Path()
    """The folder that the work is about."""

    model: str | None = None
    """LiteLLM's name of the model, such as `anthropic/claude-sonnet-4-6` or `ollama_chat/qwen3`."""
    models: Models = Models()
    """A model per role: planner, agent, toolsmith, reviser, judge, answer."""
    fallbacks: tuple[str, ...] = ()
    """Models tried in turn when a provider fails."""

    max_parallel: int = Field(default=4, ge=1, le=64)
    """Subtasks that run at once."""
    max_parallel_roles: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Fewer of them for a role of agents, such as `{coder = 2}`."""
    max_parallel_models: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Calls at once of a model, such as `{"ollama_chat/qwen3" = 1}`."""
    max_subtasks: int = Field(default=20, ge=1, le=500)
    """The largest plan."""
    max_steps: int = Field(default=12, ge=1, le=100)
    """Steps of an agent within one attempt."""
    max_revisions: int = Field(default=5, ge=0, le=50)
    """Changes to a plan within one run."""
    revise: Literal["auto", "always", "never"] = "auto"
    """When the reviser is asked: after a failure or surprise, after every subtask, or never."""
    reuse: Literal["auto", "never"] = "auto"
    """Whether the plan of an earlier run that did well is used again for a request of the same form."""
    max_cost: float | None = Field(default=None, ge=0)
    """US dollars for one run."""
    allow_unpriced: bool = False
    """With `max_cost`, use models whose price is not known all the same: their calls cost what they cost."""
    max_calls: int | None = Field(default=200, ge=1)
    """Model calls for one run."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens, sent and received, for one run."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds for one run."""
    model_timeout: float = Field(default=180.0, gt=0)
    """Seconds for one model call."""
    model_retries: int = Field(default=2, ge=0, le=10)
    """Further tries of a call that a provider failed."""

    approve: Annotated[tuple[Approval, ...], NoDecode] = ("network", "secrets", "packages", "effects")
    """What you are asked about before it happens, besides these: plan, tools, writes; or all, or none."""
    trusted: tuple[Path, ...] = ()
    """Workspaces whose `orch.toml` may set what is yours to allow, such as `network` and `approve`."""
    yes: bool = False
    """Whether everything that would be asked is answered yes."""

    processes: dict[str, Process] = Field(default_factory=dict)
    """Programs and Prefect flows of yours that plans may run; see docs/processes.md."""
    mcp: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")], McpServer] = Field(
        default_factory=dict
    )
    """MCP servers of others whose tools plans may use; see docs/mcp.md."""
    effects: Literal["ask", "retry", "skip"] = "ask"
    """What becomes of a process with effects that was begun and of which nobody knows whether it was done."""

    sandbox: Literal["auto", "bubblewrap", "landlock", "sandbox-exec"] = "auto"
    """The backend that model-written code runs in."""
    network: tuple[str, ...] = ()
    """Domains, with those below them, that may be reached without a question."""
    secrets: tuple[str, ...] = ()
    """Variables of the environment that tools may be given without a question, such as `WEATHER_KEY`."""
    packages: tuple[str, ...] = ()
    """Packages of the index that tools may be given without a question, by name, such as `markdown`."""
    workspace_max_mb: int = Field(default=512, ge=1)
    """The largest workspace that is copied for a subtask."""

    allow_protected: tuple[str, ...] = ()
    """Protected names, such as `.env.example`, that subtasks may read and change all the same."""

    memory: MemorySettings = MemorySettings()
    remember: Literal["auto", "rules", "never"] = "auto"
    """How facts about you are found when a session ends: by one model call, by rules alone, or not at all."""
    remember_wait: float = Field(default=5.0, gt=0, le=60)
    """Seconds that the end of a session may wait for that call; after them rules do what they can."""
    conversation_tokens: int = Field(default=4_000, ge=200)
    """What of a session's conversation goes into a request; older turns are made short."""
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")
    """A Prefect server of your own; without one, a local one is kept running. No workspace can set it."""
    prefect_home: Path | None = None
    """Where the local Prefect server keeps its data; by default below `home`."""
    prefect_idle_minutes: float = Field(default=60.0, gt=0)
    """The local Prefect server stops after this long without a request."""

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = [TomlConfigSettingsSource(settings_cls, path) for path in cls.toml_files]
        return (init_settings, env_settings, *files)

    def model_for(self, role: str) -> str | None:
        """The model of a role, or None where none is set."""
        own: str | None = getattr(self.models, role)
        return own or (self.models.agent if role == "judge" else None) or self.model

    @property
    def alternatives(self) -> tuple[str, ...]:
        """What agents may ask besides their model; nothing where the command line says what they ask."""
        said = "model" in self.flags and self.models.agent is None
        return () if said else self.models.agent_alternatives


def approvals(names: Iterable[object]) -> tuple[Approval, ...]:
    """The kinds that are meant. Naming some never leaves out what is asked about anyway; `none` does.

    Raises `ValueError` with all the names there are.
    """
    said = [str(name).strip() for name in names]
    if wrong := [name for name in said if name not in (*APPROVALS, "all", "none")]:
        raise ValueError(f"{', '.join(map(repr, wrong))}: say {', '.join(APPROVALS)}, all or none")
    if "all" in said:
        return APPROVALS
    anyway = () if "none" in said or not said else ASKED_ANYWAY
    return tuple(kind for kind in APPROVALS if kind in said or kind in anyway)


def load_settings(flags: Mapping[str, Any], workspace: Path) -> Settings:
    """The settings of one command. `flags` holds what was said on the command line; None means unsaid.

    Raises `ConfigError` naming the file or variable and the field.
    """
    theirs, yours = workspace / "orch.toml", user_file()
    files = tuple(path for path in (theirs, yours) if path.is_file())
    found = {path: _read_toml(path) for path in files}
    foreign: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    if theirs in found and theirs != yours and not _trusted(workspace, found.get(yours, {})):
        _refuse_what_is_yours(theirs, found[theirs])
        foreign = frozenset(found[theirs].get("processes", ()))
        servers = frozenset(found[theirs].get("mcp", ()))
    said = {name: value for name, value in flags.items() if value is not None}
    own = {
        "toml_files": files,
        "foreign": foreign,
        "foreign_servers": servers,
        "flags": frozenset(said),
        "__doc__": Settings.__doc__,
    }
    bound = type("Settings", (Settings,), own)
    try:
        settings: Settings = bound(**said, workspace=workspace)
    except ValidationError as exc:
        raise ConfigError(_describe(exc, files), "Correct it, or take it out to have the default.") from exc
    return settings


def user_file() -> Path:
    """The user's own configuration file; `ORCH_HOME` moves it along with everything else."""
    home = os.environ.get("ORCH_HOME")
    return (Path(home) if home else platformdirs.user_config_path("orch")) / "orch.toml"


YOURS = (
    *("secrets", "packages", "yes", "trusted", "network", "approve", "effects"),
    *("allow_protected", "home", "memory", "remember", "prefect_home", "prefect_api_url"),
)
"""What a workspace cannot set for the user: it may hold what somebody else has written."""


def _read_toml(path: Path) -> dict[str, Any]:
    """What a file holds. Raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", "Correct the file, or move it away.") from exc


def _trusted(workspace: Path, yours: Mapping[str, Any]) -> bool:
    """Whether the user's own file names a workspace, which then speaks for the user."""
    named = yours.get("trusted", ())
    paths = [Path(path).expanduser() for path in named if isinstance(path, str)]
    return workspace.resolve() in [path.resolve() for path in paths if path.is_absolute()]


def _refuse_what_is_yours(path: Path, found: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where the file of a workspace sets what only its user may."""
    # Prefect's own name of the address is one too.
    set_there = {name.lower() for name in found}
    if taken := [name for name in YOURS if name in set_there]:
        raise ConfigError(
            f"{path} sets {', '.join(taken)}, which no workspace can set for you.",
            f"Where you have read that file and trust it: add {str(path.parent.resolve())!r} to `trusted` in "
            f"{user_file()}. Else take it out, or set it there.",
        )


def _describe(exc: ValidationError, files: tuple[Path, ...]) -> str:
    faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())
    read = ", ".join(["the flags", "ORCH_* in the environment", *map(str, files)])
    return f"A setting is wrong: {faults} (read from {read})"


def spare_loopback_the_proxy() -> None:
    """Have this process and those it starts reach loopback without a proxy that the environment sets.

    Libraries read `NO_PROXY`, each when it likes: call this before they are imported.
    """
    proxies = urllib.request.getproxies_environment()
    # Without a proxy there is nothing to spare, and on macOS the variable would hide the system's own.
    if not proxies.keys() - {"no"} or proxies.get("no") == "*":
        return
    spared = [name.strip() for name in proxies.get("no", "").split(",") if name.strip()]
    value = ",".join([*spared, *(name for name in LOOPBACK if name not in spared)])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = value


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def urlopen(request: urllib.request.Request | str, timeout: float) -> Any:
    """Open an address, one of loopback without a proxy. Raises `OSError` and `ValueError`."""
    url = request if isinstance(request, str) else request.full_url
    direct = urllib.parse.urlsplit(url).hostname in LOOPBACK
    # urllib does not find ::1 in NO_PROXY.
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if direct else []))
    return opener.open(request, timeout=timeout)


def read_secret(name: str) -> str | None:
    """The value of a variable that a tool was allowed to be given; None where it is not set."""
    return os.environ.get(name) or None


def package_index() -> dict[str, str]:
    """What uv has to be told besides its own variables and files: the index that the user set for pip.

    Where something is set for uv itself, that counts.
    """
    found = {}
    for wanted, others, theirs in _PIPS:
        value = " ".join(os.environ.get(theirs, "").split())
        if value and not any(os.environ.get(name) for name in (wanted, *others)):
            found[wanted] = value.replace(" ", ",") if wanted == "UV_FIND_LINKS" else value
    return found


_PIPS = (
    ("UV_DEFAULT_INDEX", ("UV_INDEX_URL",), "PIP_INDEX_URL"),
    ("UV_EXTRA_INDEX_URL", ("UV_INDEX",), "PIP_EXTRA_INDEX_URL"),
    ("UV_FIND_LINKS", (), "PIP_FIND_LINKS"),
    ("SSL_CERT_FILE", (), "PIP_CERT"),
)


def editor() -> str:
    """The command of the user's editor."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


# --- finding a model where none is set

OLLAMA = "http://127.0.0.1:11434"

NO_MODEL = (
    "Set one of three ways:\n"
    '  1. orch ask -m anthropic/claude-sonnet-4-6 …   (or ORCH_MODEL, or model = "…" in orch.toml)\n'
    "  2. export a provider's key, such as ANTHROPIC_API_KEY or OPENAI_API_KEY\n"
    "  3. start a local server: Ollama, or any OpenAI-compatible one named by OPENAI_BASE_URL\n"
    "Or see it work without a model: orch demo"
)


OTHER_NAMES = {
    "ANTHROPIC_API_KEY": ("ANTHROPIC_AUTH_TOKEN",),
    "GEMINI_API_KEY": ("GOOGLE_API_KEY",),
    "OPENAI_API_KEY": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "OPENROUTER_API_KEY": ("OR_API_KEY",),
}
"""What serves in the place of a key."""


def missing_key(model: str) -> str:
    """What has to be set before a model can be asked; empty where nothing is known to be missing.

    Not covered: providers beside those of `FAMILIES`, a key that is wrong, and a server that is down.
    """
    provider, slash, _ = model.partition("/")
    for key, family in FAMILIES.items():
        if slash and family.provider == provider:
            found = any(os.environ.get(name) for name in (key, *OTHER_NAMES.get(key, ())))
            return "" if found else f"{key} is not set"
    return ""


def find_model() -> Choice:
    """A model for a user who has set none. Raises `ConfigError` with the three ways to set one.

    An OpenAI-compatible server that the user points at comes before the bare keys, because
    `OPENAI_API_KEY` is then meant for that server.
    """
    base = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
    if base and (name := _first_model(f"{base.rstrip('/')}/models", ("data", "id"))):
        return Choice(f"openai/{name}", "the first model of the server at OPENAI_BASE_URL")
    for key in FAMILIES:
        if os.environ.get(key) and not (base and key == "OPENAI_API_KEY"):
            chosen = default_model(key)
            return Choice(chosen.model, f"{key} is set; {chosen.why}")
    if name := _first_model(f"{OLLAMA}/api/tags", ("models", "name")):
        return Choice(f"ollama_chat/{name}", f"the first model of Ollama at {OLLAMA}")
    raise ConfigError("No model is set, and none was found.", NO_MODEL)


def _first_model(url: str, path: tuple[str, str]) -> str | None:
    """The first model a local server offers; None where nobody answers within a second."""
    if not url.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(url)
    if key := os.environ.get("OPENAI_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=1.0) as reply:
            rows = json.load(reply)[path[0]]
        return str(rows[0][path[1]])
    except (OSError, ValueError, LookupError, TypeError):
        return None
