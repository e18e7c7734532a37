"""Every event of a run, frozen. All views, the journal and `fileLog.md` are made from these and nothing else.

An `Event` is an envelope (run, number, time, schema version) around one fact. Readers pass over a `kind` that
they do not know: newer versions add kinds and optional fields, and raise `SCHEMA` if an old one changes.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli.plan import Patch, Plan, Result
from orchestrator_cli.tool_events import ToolBuilt as ToolBuilt
from orchestrator_cli.tool_events import ToolNeeded as ToolNeeded
from orchestrator_cli.tool_events import ToolRefused as ToolRefused
from orchestrator_cli.tool_events import ToolReused as ToolReused
from orchestrator_cli.tool_events import ToolTried as ToolTried
from orchestrator_cli.values import AnsweredBy, Attachment, Remembered, ShownMemory, Swapped, Turn, Usage
from orchestrator_cli.values import Asked as Asked
from orchestrator_cli.values import Fact as Fact
from orchestrator_cli.values import FileChange as FileChange
from orchestrator_cli.values import OpenApproval as OpenApproval
from orchestrator_cli.values import Outcome as Outcome
from orchestrator_cli.values import Part as Part

SCHEMA = 1


class RunStarted(Fact):
    prompt: str
    session: str = ""  # that it belongs to; empty if there is none
    conversation: tuple[Turn, ...] = ()
    """What was said before in the same session, oldest first."""
    earlier: str = ""  # what the turns before these came to
    workspace: str
    mark: str = ""  # of that folder: see durable.held_folder; empty in journals of earlier versions
    models: dict[str, str]
    """Model name per role; `recorded` where replies are played back."""
    found: str = ""  # the model that was found and not set, and where; empty if all are set
    sandbox: str  # the backend that model-written code runs in
    version: str
    occasion: str = ""  # what set a run of a schedule off: see Surroundings
    approve: tuple[str, ...] = ()
    """What the user wants to approve; it holds when the run is resumed too."""
    forked_from: str | None = None
    """The run whose finished part this one shares."""
    guidance: tuple[str, ...] = ()
    """The files of instructions and the skills that models are given."""
    attachments: tuple[Attachment, ...] = ()
    answer_schema: dict[str, JsonValue] | None = None
    """The JSON Schema that the answer has to satisfy; null if it is in words."""
    speak: str = ""
    """The file that gets the answer as sound, with its whole path; empty if none does."""


class RunResumed(Fact):
    """Another process went on with a run that had stopped."""

    version: str
    sandbox: str = ""
    """The backend from now on; empty in journals of versions that did not say it."""
    limits: dict[str, JsonValue] = Field(default={})  # those that were said anew
    workspace: str = ""  # from now on; empty in journals of earlier versions
    mark: str = ""
    found: str = ""
    guidance: tuple[str, ...] = ()


class RunPaused(Fact):
    """Nothing more can be done before a person has answered."""

    approvals: tuple[str, ...]
    """The ids of the open questions."""


class Recalled(Fact):
    """What memory brought before planning."""

    runs: tuple[str, ...] = ()
    """Earlier prompts, most similar first."""
    tools: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    """What is remembered of the user."""
    used: tuple[Remembered, ...] = ()
    """The same runs and those that are withheld, each with its use."""
    shown: tuple[ShownMemory, ...] = ()
    """The facts, and what other conversations and runs said."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What other conversations and runs said, a line for each."""
        return tuple(one.line for one in self.shown if one.what == "said")


class Transcribed(Fact):
    """A model has written down an attached recording."""

    attachment: str
    """Its name."""
    text: str


class PlanReused(Fact):
    """The plan of an earlier run is used again, and no planner is asked."""

    earlier: str
    """The run that it comes from."""
    swapped: tuple[Swapped, ...] = ()
    reason: str


class ReuseDeclined(Fact):
    """The plan of an earlier run did well, and is not used again all the same."""

    earlier: str
    reason: str


class FeedbackGiven(Fact):
    """The user said how the run was, after its end; the last word counts."""

    vote: Literal["good", "bad"]
    why: str = ""


class PlanProposed(Fact):
    plan: Plan


class PlanApproved(Fact):
    """A person allowed the plan to run; `plan` is what they made of it."""

    plan: Plan
    edited: bool = False


class PlanRepaired(Fact):
    """What was set right in a plan without asking the planner again."""

    what: Literal["plan", "patch"] = "plan"
    repairs: tuple[str, ...]
    plan: Plan | None = None
    """What the plan is from now on, where it was set right while it ran; its version stays."""


class PlanRefused(Fact):
    """A plan or a patch that was sent back, with every fault."""

    what: Literal["plan", "patch"] = "plan"
    round: int
    faults: tuple[str, ...]


class PlanRevised(Fact):
    plan: Plan
    patch: Patch
    cause: str
    """The failure, failed check or surprise that led to it."""
    causes: tuple[str, ...] = ()
    """The ids of the causes that it settles; empty in journals of earlier versions."""


class RevisionDeclined(Fact):
    """The reviser was asked and left the plan as it is."""

    reason: str
    cause: str
    causes: tuple[str, ...] = ()


class SubtaskStarted(Fact):
    subtask: str
    title: str
    attempt: int
    plan_version: int
    items: int | None = None
    """For a `for_each` subtask as a whole, how many items its list has."""


class SubtaskWaiting(Fact):
    """It cannot start, or go on, before a person has answered."""

    subtask: str
    approval: str


class AgentStepped(Fact):
    subtask: str
    attempt: int
    step: int
    thought: str


class CodeRan(Fact):
    subtask: str
    attempt: int
    step: int
    code: str
    output: str
    error: str | None = None


class FunctionRepeated(Fact):
    """Agents of the run have written the same function for the third time."""

    subtask: str
    """Where it was written the third time."""
    function: str
    mark: str
    """The same for every function that does the same in the same way."""


class ToolCalled(Fact):
    subtask: str
    attempt: int
    tool: str
    arguments: dict[str, JsonValue]
    outcome: str
    """The value, shortened, or the error."""
    ok: bool
    returned: JsonValue = None
    """The whole value, where the same call could give another one later."""


class FilesChanged(Fact):
    """The changes of one subtask, as they were committed to the workspace."""

    subtask: str
    attempt: int
    changes: tuple[FileChange, ...]


class RunUndone(Fact):
    """The run was taken back, by the user and after its end."""

    to: str | None = None
    """The subtask after whose commit the workspace is now; null where it is as before the run."""
    changes: tuple[FileChange, ...]


class SubtaskAccepted(Fact):
    """The result is accepted. If no `SubtaskFinished` follows, the commit's record says if it happened."""

    subtask: str
    result: Result


class SubtaskFinished(Fact):
    subtask: str
    result: Result
    seconds: float


class SubtaskFailed(Fact):
    subtask: str
    attempt: int
    reason: str
    final: bool
    """False where another attempt follows."""
    provider_lost: bool = False  # only because a model's provider could not be asked: done again on resume


class SubtaskSkipped(Fact):
    subtask: str
    reason: str


class SubtasksReopened(Fact):
    """What had ended is done again, as the user chose; instances of `for_each` have their own names."""

    subtasks: tuple[str, ...]
    reason: str


class LateResult(Fact):
    """A result of a subtask that a patch has removed: recorded, not used."""

    result: Result


class ApprovalAsked(OpenApproval, Fact):
    """A person is asked. The same question has the same id, and is asked once in a run."""


class ApprovalGiven(Fact):
    id: str
    decision: Literal["yes", "no", "answered"]
    value: JsonValue = None
    """For a `question`, the answer."""
    remark: str = ""
    """What the person said along with it."""
    by: AnsweredBy = "user"

    @property
    def reason(self) -> str:
        """The remark as the end of a sentence."""
        return f": {self.remark}" if self.remark else ""


class Remarked(Fact):
    """What a person said while the run went on; the reviser reads it."""

    text: str


class EffectBegun(Fact):
    """Something with effects outside the workspace is about to be done."""

    key: str
    """The idempotency key that goes with it."""
    subtask: str
    attempt: int
    what: str


class EffectEnded(Fact):
    """How it ended. If it is missing, whether it was done is unknown."""

    key: str
    ok: bool
    outcome: JsonValue = None
    """The value, or why it failed."""
    files: tuple[str, ...] = ()
    """What it wrote in its checkout, where it is lost unless the subtask is finished."""


class ResultJudged(Fact):
    """A model held a result against what the plan says makes it good."""

    subtask: str
    attempt: int
    good: bool
    reason: str


class ModelAsked(Fact):
    """A model call begins; its `Spent` ends it. Only shown, see `UNWRITTEN`."""

    role: str
    subtask: str | None
    model: str
    waits_for: str = ""
    """What the call waits for, in a few words; it is not made before this is said again without it."""


class Spent(Fact):
    """One try of a model call. `cost`: US dollars, null if unknown; `cached_tokens`: of the prompt."""

    role: str
    subtask: str | None
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cost: float | None
    seconds: float
    total: Usage
    fault: str | None = None  # why there was no reply; the try counts all the same
    stopped: bool = False  # by the user or a time limit, not by a fault of the provider
    reasoning: str | None = None  # the beginning of the model's thoughts


class Noticed(Fact):
    """Something a user should know that stops nothing."""

    message: str


class FlowStarted(Fact):
    """The run has become a Prefect flow run."""

    flow_run: str
    url: str


class AnswerDelta(Fact):
    text: str


UNWRITTEN = (ModelAsked, AnswerDelta)
"""What is shown while it happens, and is not in the journal."""


class RunFinished(Fact):
    outcome: Outcome
    answer: str
    error: str | None = None
    exit_code: int = 0
    seconds: float
    usage: Usage
    files: tuple[str, ...] = ()


AnyFact = Annotated[
    RunStarted | RunResumed | RunPaused | Recalled | Transcribed | PlanReused | ReuseDeclined
    | FeedbackGiven | PlanProposed | PlanApproved | PlanRepaired | PlanRefused | PlanRevised
    | RevisionDeclined | SubtaskStarted | SubtaskWaiting | AgentStepped | CodeRan | FunctionRepeated
    | ToolCalled | ToolNeeded | ToolTried | ToolBuilt | ToolReused | ToolRefused | FilesChanged
    | RunUndone | SubtaskAccepted | SubtaskFinished | SubtaskFailed | SubtaskSkipped | SubtasksReopened
    | LateResult | ApprovalAsked | ApprovalGiven | Remarked | EffectBegun | EffectEnded | ResultJudged
    | ModelAsked | Spent | Noticed | FlowStarted | AnswerDelta | RunFinished,
    Field(discriminator="kind"),
]  # fmt: skip


KINDS = frozenset(fact.__name__ for fact in Fact.__subclasses__() if fact not in UNWRITTEN)
"""The kinds of events that are written."""


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
