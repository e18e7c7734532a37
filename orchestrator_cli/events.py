"""Every event of a run, frozen. All views, the journal and `fileLog.md` are made from these and nothing else.

An `Event` is an envelope (run, number, time, schema version) around one fact. A reader that
meets a `kind` it does not know must pass over it: newer versions add kinds and optional
fields, and raise `SCHEMA` when they change the meaning of an old one.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli.planning.plan import Patch, Plan, Result
from orchestrator_cli.usage import Usage

SCHEMA = 1


class Part(BaseModel):
    """A frozen piece of a fact."""

    model_config = ConfigDict(frozen=True)


class Fact(Part):
    kind: str


class RunStarted(Fact):
    kind: Literal["RunStarted"] = "RunStarted"
    prompt: str
    workspace: str
    models: dict[str, str]
    """Model name per role; `recorded` where replies are played back."""
    sandbox: str
    """The backend that model-written code runs in."""
    version: str


class Recalled(Fact):
    """What memory brought before planning."""

    kind: Literal["Recalled"] = "Recalled"
    runs: tuple[str, ...] = ()
    """Earlier prompts, most similar first."""
    tools: tuple[str, ...] = ()


class PlanProposed(Fact):
    kind: Literal["PlanProposed"] = "PlanProposed"
    plan: Plan


class PlanRefused(Fact):
    """A plan or a patch that was sent back, with every fault."""

    kind: Literal["PlanRefused"] = "PlanRefused"
    what: Literal["plan", "patch"] = "plan"
    round: int
    faults: tuple[str, ...]


class PlanRevised(Fact):
    kind: Literal["PlanRevised"] = "PlanRevised"
    plan: Plan
    patch: Patch
    cause: str
    """The failure, failed check or surprise that led to it."""


class RevisionDeclined(Fact):
    """The reviser was asked and left the plan as it is."""

    kind: Literal["RevisionDeclined"] = "RevisionDeclined"
    reason: str
    cause: str


class SubtaskStarted(Fact):
    kind: Literal["SubtaskStarted"] = "SubtaskStarted"
    subtask: str
    title: str
    attempt: int
    plan_version: int


class AgentStepped(Fact):
    kind: Literal["AgentStepped"] = "AgentStepped"
    subtask: str
    attempt: int
    step: int
    thought: str


class CodeRan(Fact):
    kind: Literal["CodeRan"] = "CodeRan"
    subtask: str
    attempt: int
    step: int
    code: str
    output: str
    error: str | None = None


class ToolCalled(Fact):
    kind: Literal["ToolCalled"] = "ToolCalled"
    subtask: str
    attempt: int
    tool: str
    arguments: dict[str, JsonValue]
    outcome: str
    """The value, shortened, or the error."""
    ok: bool


class ToolNeeded(Fact):
    kind: Literal["ToolNeeded"] = "ToolNeeded"
    tool: str
    purpose: str
    asked_by: str
    """`plan`, or the subtask whose agent asked."""


class ToolTried(Fact):
    """One round of writing and trying a tool."""

    kind: Literal["ToolTried"] = "ToolTried"
    tool: str
    round: int
    passed: bool
    results: tuple[str, ...]
    """A line per trial case, or the checker's faults."""
    source: str = ""
    """The code of the round."""


class FunctionDoc(Part):
    name: str
    signature: str
    doc: str


class ToolBuilt(Fact):
    kind: Literal["ToolBuilt"] = "ToolBuilt"
    tool: str
    version: int
    purpose: str
    functions: tuple[FunctionDoc, ...]
    permissions: str
    trial: tuple[str, ...]
    sha256: str
    source: str


class ToolReused(Fact):
    """A tool came from the library instead of being built again."""

    kind: Literal["ToolReused"] = "ToolReused"
    tool: str
    version: int
    purpose: str
    sha256: str


class ToolRefused(Fact):
    kind: Literal["ToolRefused"] = "ToolRefused"
    tool: str
    reasons: tuple[str, ...]


class FileChange(Part):
    path: str
    change: Literal["created", "modified", "deleted"]
    before_size: int | None = None
    after_size: int | None = None
    before_sha256: str | None = None
    after_sha256: str | None = None


class FilesChanged(Fact):
    """The changes of one subtask, as they were committed to the workspace."""

    kind: Literal["FilesChanged"] = "FilesChanged"
    subtask: str
    attempt: int
    changes: tuple[FileChange, ...]


class RunUndone(Fact):
    """The run was taken back, by the user and after its end."""

    kind: Literal["RunUndone"] = "RunUndone"
    to: str | None = None
    """The subtask after whose commit the workspace is now; null where it is as before the run."""
    changes: tuple[FileChange, ...]


class SubtaskFinished(Fact):
    kind: Literal["SubtaskFinished"] = "SubtaskFinished"
    subtask: str
    result: Result
    seconds: float


class SubtaskFailed(Fact):
    kind: Literal["SubtaskFailed"] = "SubtaskFailed"
    subtask: str
    attempt: int
    reason: str
    final: bool
    """False where another attempt follows."""


class SubtaskSkipped(Fact):
    kind: Literal["SubtaskSkipped"] = "SubtaskSkipped"
    subtask: str
    reason: str


class LateResult(Fact):
    """A result of a subtask that a patch has removed: recorded, not used."""

    kind: Literal["LateResult"] = "LateResult"
    result: Result


class Spent(Fact):
    """One model call. `cost` in US dollars; null where the model has no known price."""

    kind: Literal["Spent"] = "Spent"
    role: str
    subtask: str | None
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float
    total: Usage


class Noticed(Fact):
    """Something a user should know that stops nothing."""

    kind: Literal["Noticed"] = "Noticed"
    message: str


class FlowStarted(Fact):
    """The run has become a Prefect flow run."""

    kind: Literal["FlowStarted"] = "FlowStarted"
    flow_run: str
    url: str


class AnswerDelta(Fact):
    kind: Literal["AnswerDelta"] = "AnswerDelta"
    text: str


class RunFinished(Fact):
    kind: Literal["RunFinished"] = "RunFinished"
    outcome: Literal["completed", "failed", "interrupted"]
    answer: str
    error: str | None = None
    exit_code: int = 0
    seconds: float
    usage: Usage
    files: tuple[str, ...] = ()


AnyFact = Annotated[
    RunStarted
    | Recalled
    | PlanProposed
    | PlanRefused
    | PlanRevised
    | RevisionDeclined
    | SubtaskStarted
    | AgentStepped
    | CodeRan
    | ToolCalled
    | ToolNeeded
    | ToolTried
    | ToolBuilt
    | ToolReused
    | ToolRefused
    | FilesChanged
    | RunUndone
    | SubtaskFinished
    | SubtaskFailed
    | SubtaskSkipped
    | LateResult
    | Spent
    | Noticed
    | FlowStarted
    | AnswerDelta
    | RunFinished,
    Field(discriminator="kind"),
]


class Event(BaseModel):
    """One fact of a run, numbered from 1 without gaps."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    run: str
    seq: int
    time: datetime
    schema_version: int = Field(default=SCHEMA, alias="schema")
    data: AnyFact

    @property
    def kind(self) -> str:
        return self.data.kind

    def json_line(self) -> str:
        """The event as one line of JSON, without its end of line."""
        return self.model_dump_json(by_alias=True)
