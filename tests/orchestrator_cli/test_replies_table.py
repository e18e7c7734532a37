"""What real models reply, as a table: a role, its reply, and what comes of it, streamed and in one piece.

`again` is a word of the request that asks the model again; its next reply is a good one.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from endpoint import Endpoint, Reply, call
from scripted_model import answered, coder, decided, judged, plan

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ReplyUnusable
from orchestrator_cli.events import Fact, Noticed, PlanRepaired
from orchestrator_cli.execution.attempt import AttemptSpec, CheckoutRef, Host
from orchestrator_cli.execution.kinds import run_attempt
from orchestrator_cli.execution.tool_registry import whole_text
from orchestrator_cli.model_settings import ROLES
from orchestrator_cli.models.chain import RetryingModel
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.model import Completion, ModelRequest, OnDelta
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.planning.answer import write_answer
from orchestrator_cli.planning.checks import judge
from orchestrator_cli.planning.planner import PlannerContext, RoleCard, make_plan
from orchestrator_cli.planning.reviser import Cause, Situation, revise
from orchestrator_cli.roles import load_roles
from toolsmith.errors import ReplyFaulty
from toolsmith.parsing import python_block
from toolsmith.sandbox import choose_backend
from toolsmith.sandbox.proxy import Dialer

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

LOOP = "I will look at the files and then I will plan.\n"


class Row(NamedTuple):
    role: str
    name: str
    reply: Reply
    value: Any
    again: str = ""
    repaired: str = ""


@dataclass
class Played:
    """What came of the replies to one role."""

    value: Any = None
    facts: list[Fact] = field(default_factory=list)
    deltas: str = ""
    replies: list[Completion] = field(default_factory=list)


@dataclass
class Model:
    """The real models of a run, which keeps their replies."""

    inner: RetryingModel
    played: Played

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        reply = self.inner.complete(request, on_delta, cancellation)
        self.played.replies.append(reply)
        return reply

    def emit(self, fact: Fact) -> None:
        self.played.facts.append(fact)

    def changed_files(self) -> list[str]:
        return []

    def check_room(self) -> None:
        """There is room."""


PLANNED = PlannerContext(roles=(RoleCard(name="coder", when="always"),), tools=())
TWO = Plan(
    goal="g",
    subtasks=tuple(
        Subtask(id=name, title=f"Do {name}", kind="answer", instruction=name) for name in ("one", "two")
    ),
)


def plays_planner(model: Model, _: Path) -> object:
    made = make_plan("Do it.", runs=(), files=[], planner_context=PLANNED, model=model, emit=model.emit)
    return made.subtasks[0].instruction


def plays_reviser(model: Model, _: Path) -> object:
    made = revise(
        Situation(
            prompt="Do it.",
            plan=TWO,
            states={"one": "failed", "two": "pending"},
            outcomes={},
            causes=[Cause(subtask="one", what="failed", text="no")],
        ),
        planner_context=PLANNED,
        model=model,
        apply=lambda patch: TWO.model_copy(update={"subtasks": (*TWO.subtasks, *patch.add)}),
        emit=model.emit,
    )
    return f"{made.decision}: {made.reason}"


def plays_judge(model: Model, _: Path) -> object:
    repaired = lambda text: model.emit(Noticed(message=text))  # noqa: E731
    made = judge(TWO["one"], "x", (), model=model, cancellation=Cancellation(), repaired=repaired)
    return f"{made.good}: {made.reason}"


def plays_answer(model: Model, _: Path) -> object:
    def on_delta(text: str) -> None:
        model.played.deltas += text

    done = {name: Result(subtask=name, attempt=1, plan_version=1, value=name) for name in ("one", "two")}
    try:
        return write_answer(
            "Do it.",
            TWO,
            states={"one": "done", "two": "done"},
            results=done,
            failures={},
            answered=(),
            made=(),
            reused=(),
            lessons=(),
            model=model,
            on_delta=on_delta,
        )
    except ReplyUnusable as exc:
        return exc


def plays_toolsmith(model: Model, _: Path) -> object:
    """As `toolsmith.proof.proving` asks for code."""
    faults = ""
    for _round in range(3):
        request = ModelRequest(role="toolsmith", messages=({"role": "user", "content": f"Code. {faults}"},))
        try:
            return python_block(whole_text(model.complete(request)), "f").strip()
        except ReplyFaulty as exc:
            faults = "; ".join(exc.faults)
    return None


def plays_agent(role: str, model: Model, folder: Path) -> object:
    subtask = Subtask.model_validate(coder("one", role=role))
    place = CheckoutRef(folder=folder, root=folder)
    spec = AttemptSpec(
        run="r",
        subtask=subtask,
        attempt=1,
        plan_version=1,
        role=load_roles(folder)[role],
        checkout=place,
        max_steps=12,
    )
    outcome = run_attempt(spec, model, Host(choose_backend(), Dialer(), Cancellation()))  # type: ignore[arg-type]
    return outcome.error.message if outcome.error else outcome.value


PLAYS: dict[str, Callable[[Model, Path], object]] = {
    "planner": plays_planner,
    "reviser": plays_reviser,
    "judge": plays_judge,
    "answer": plays_answer,
    "toolsmith": plays_toolsmith,
    "coder": partial(plays_agent, "coder"),
    "caller": partial(plays_agent, "researcher"),
}

# --- the rows

FIRST, GOOD, DRAFT = answered("First."), answered("Good."), answered("Draft.")
KEEP, STOP = decided("keep", "fine"), decided("stop", "enough")
YES, NO = judged(True, "it does"), judged(False, "it does not")
CODE = "```python\ndef f(x):\n    return 1\n```"
DRAFT_CODE = CODE.replace("1", "0")
DONE = "Thought: on.\n<code>\nfinal_answer(1)\n</code>"
DRAFTED = "<code>\nfinal_answer(0)\n</code>"
LOOPS = LOOP * 60
SEVEN = call("final_answer", {"answer": 7})
"""The reply to each role's second request."""
NEXT: dict[str, Reply] = {
    "planner": GOOD,
    "reviser": KEEP,
    "judge": YES,
    "answer": "The good answer.",
    "toolsmith": CODE,
    "coder": DONE,
    "caller": call("final_answer", {"answer": 1}),
}
"""What comes of it."""
VALUES: dict[str, Any] = {
    "planner": "Good.",
    "reviser": "keep: fine",
    "judge": "True: it does",
    "answer": "The good answer.",
    "toolsmith": "def f(x):\n    return 1",
    "coder": 1,
    "caller": 1,
}


def row_of(subtask: dict[str, Any] | str, **fields: Any) -> str:
    return plan(
        {"id": "a", "title": "A", "kind": "answer", "instruction": "First."} | dict(subtask), **fields
    )


def thinking(role: str, draft: str, final: str, value: Any) -> Iterator[Row]:
    """The same thoughts in all the ways in which they arrive."""
    yield Row(role, "think", f"<think>Perhaps\n{draft}</think>\n\n{final}", value)
    yield Row(role, "thinking", f"<thinking>\nPerhaps\n{draft}\n</thinking>{final}", value)
    yield Row(role, "thought", f"\n<thought>{draft}</thought>\n{final}", value)
    yield Row(role, "opened by the template", f"Perhaps\n{draft}\n</think>\n\n{final}", value)
    yield Row(role, "beside", {"content": final, "reasoning_content": f"Perhaps {draft}"}, value)
    shown = f"Sure.\n\n{final}" if role == "answer" else value
    yield Row(role, "after a word", f"Sure.\n<think>\n{draft}\n</think>\n{final}", shown)
    yield Row(role, "never ends", f"<think>\n{draft}\nor not", VALUES[role], "thoughts")


def bad(role: str, text: str) -> Iterator[Row]:
    """What no role can use: `text` is a part of a good reply."""
    yield Row(role, "empty", "", VALUES[role], "empty")
    yield Row(role, "blank", " \n ", VALUES[role], "empty")
    yield Row(role, "only thoughts", {"content": "", "reasoning_content": "Hm."}, VALUES[role], "thoughts")
    yield Row(role, "refused", {"content": "", "refusal": "I can not."}, VALUES[role], "I can not")
    yield Row(role, "cut", {"content": text, "finish_reason": "length"}, VALUES[role], "was cut after")
    yield Row(role, "cut thoughts", cut_thoughts(text), VALUES[role], "all of it thoughts")
    yield Row(role, "a loop", LOOPS, VALUES[role], "over and over")
    yield Row(role, "a loop of thoughts", f"<think>{LOOPS}", VALUES[role], "over and over")


def cut_thoughts(text: str) -> Reply:
    return {"content": f"<think>{text}", "finish_reason": "length"}


TABLE = [
    *thinking("planner", f"```json\n{DRAFT}\n```", FIRST, "First."),
    *thinking("reviser", STOP, KEEP, "keep: fine"),
    *thinking("judge", NO, YES, "True: it does"),
    *thinking("answer", "42?", "It is 7.", "It is 7."),
    *thinking("toolsmith", DRAFT_CODE, CODE, VALUES["toolsmith"]),
    *thinking("coder", DRAFTED, DONE, 1),
    Row("caller", "think", SEVEN | {"content": "<think>answer 0</think>"}, 7),
    Row("caller", "beside", SEVEN | {"reasoning_content": "answer 0"}, 7),
    *bad("planner", FIRST[:-30]),
    *bad("reviser", KEEP[:-5]),
    *bad("judge", YES[:-5]),
    *bad("answer", "It is seven because of the"),
    *bad("toolsmith", CODE[:-8]),
    *bad("coder", "Thought: on.\n<code>\nfinal_answer(0)"),
    *bad("caller", "I will call"),
    Row(
        "caller", "cut call", call("final_answer", {"answer": 0}) | {"finish_reason": "length"}, 1, "was cut"
    ),
    # Words that are not thoughts.
    Row("planner", "a tag in the text", answered("<think>"), "<think>"),
    Row("planner", "a closing tag in the text", answered("a </think> b"), "a </think> b"),
    Row("planner", "lines with tags", answered("a\n</think>\nb"), "a\n</think>\nb"),
    Row("answer", "spoken of", "The </think> tag ends them.", "The </think> tag ends them."),
    Row("answer", "quoted", "It is `</think>`.\nYes.", "It is `</think>`.\nYes."),
    Row(
        "answer",
        "fenced",
        "So:\n```\n<think>\nhm\n</think>\n```\nYes.",
        "So:\n```\n<think>\nhm\n</think>\n```\nYes.",
    ),
    Row("coder", "in code", "<code>\nfinal_answer('<think>' + \"</think>\")\n</code>", "<think></think>"),
    Row(
        "coder",
        "on lines of code",
        '<code>\nx = """\n</think>\n"""\nfinal_answer(x)\n</code>',
        "\n</think>\n",
    ),
    Row("toolsmith", "in code", CODE.replace("1", "'</think>'"), "def f(x):\n    return '</think>'"),
    # Several objects.
    Row("planner", "draft first", f"Draft:\n{DRAFT}\nBetter:\n{FIRST}", "First."),
    Row("planner", "example last", f'{FIRST}\nwhere a subtask is {{"id": "x"}}', "First."),
    Row("planner", "fenced twice", f"```json\n{DRAFT}\n```\n```json\n{FIRST}\n```", "First."),
    Row("planner", "draft whole, rest cut", f"{DRAFT}\nBetter:\n{FIRST[:-20]}", "Good.", "cut"),
    Row("reviser", "draft first", f"{STOP}\nNo:\n{KEEP}", "keep: fine"),
    Row("judge", "draft first", f"{NO}\nWait.\n{YES}", "True: it does"),
    # Slips in the JSON.
    Row("planner", "comma too many", FIRST.replace("}]", "},]"), "First.", repaired="JSON"),
    Row("planner", "comma too few", FIRST.replace(', "sub', ' "sub'), "First.", repaired="JSON"),
    Row("planner", "quotes of Python", FIRST.replace('"', "'"), "First.", repaired="JSON"),
    Row(
        "planner",
        "quotes in a text",
        FIRST.replace("First.", 'Say "hi" twice.'),
        'Say "hi" twice.',
        repaired="JSON",
    ),
    Row("planner", "a raw line end", FIRST.replace("First.", "One\nTwo"), "One\nTwo", repaired="JSON"),
    Row("planner", "a comment", FIRST.replace("{", "{ // the plan\n", 1), "First.", repaired="JSON"),
    Row("reviser", "comma too many", KEEP.replace("}", ",}"), "keep: fine", repaired="JSON"),
    Row("judge", "words of Python", YES.replace("true", "True"), "True: it does", repaired="JSON"),
    Row("planner", "left out", FIRST.replace("}]", "}, ...]"), "Good.", "not valid JSON"),
    Row("planner", "a key twice", FIRST.replace("{", '{"goal": "x", ', 1), "Good.", "twice"),
    Row(
        "planner",
        "a key twice and a slip",
        FIRST.replace("{", '{"goal": "x",, ', 1),
        "Good.",
        "not valid JSON",
    ),
    Row("planner", "broken off after a slip", FIRST.replace("{", "{,", 1)[:-30], "Good.", "JSON"),
    Row("planner", "blanks without end", {"content": FIRST + " \n" * 3_000}, "First."),
    # Slips in the plan.
    Row("planner", "within another", json.dumps({"plan": json.loads(FIRST)}), "First.", repaired="'plan'"),
    Row(
        "planner",
        "null",
        row_of({"depends_on": None, "inputs": None, "retries": None}),
        "First.",
        repaired="null",
    ),
    Row("planner", "null tools", row_of({}, new_tools=None), "First.", repaired="new_tools"),
    Row("planner", "null that may be", row_of({"role": None, "check": None}), "First."),
    Row("planner", "a list as text", row_of({"id": "b", "depends_on": ""}), "First.", repaired="depends_on"),
    Row(
        "planner",
        "another case",
        row_of({"kind": "Answer", "on_failure": "SKIP"}),
        "First.",
        repaired="'Answer'",
    ),
    Row("reviser", "another case", decided("Keep", "fine"), "keep: fine", repaired="'Keep'"),
    Row(
        "reviser", "within another", json.dumps({"patch": json.loads(KEEP)}), "keep: fine", repaired="'patch'"
    ),
    # What is wrong, in words of JSON.
    Row(
        "planner", "not a list", json.dumps({"goal": "g", "subtasks": {"id": "a"}}), "Good.", "must be a list"
    ),
    Row(
        "planner", "not an object", json.dumps({"goal": "g", "subtasks": ["a"]}), "Good.", "must be an object"
    ),
    Row("planner", "not text", row_of({"title": 3}), "Good.", "must be text"),
    Row("planner", "lacking", json.dumps({"goal": "g", "subtasks": [{"id": "a"}]}), "Good.", "is missing"),
    Row("judge", "not true or false", json.dumps({"good": "perhaps"}), "True: it does", "true or false"),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def played(
    role: str, replies: list[Reply], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[Played, list[str]]:
    """What came of replies to a role, and what it was asked after the first one."""
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    first = endpoint.arrived
    endpoint.reply = lambda _, n: replies[min(n - first, len(replies)) - 1]
    found = Played()
    inner = RetryingModel(
        LiteLLMModel(Cancellation()), dict.fromkeys(ROLES, "openai/local"), Cancellation(), retries=0
    )
    found.value = PLAYS[role](Model(inner, found), folder)
    asked = [exchange.request["messages"][-1] for exchange in endpoint.exchanges[first + 1 :]]
    return found, [json.dumps(message, ensure_ascii=False) for message in asked]


@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "whole"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.role}: {row.name}")
def test_what_comes_of_a_reply(
    row: Row, whole: bool, served: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reply = {"content": row.reply} if isinstance(row.reply, str) else row.reply
    found, asked = played(row.role, [reply | {"whole": whole}, NEXT[row.role]], served, monkeypatch, tmp_path)
    assert found.value == row.value
    assert len(asked) == bool(row.again)
    assert row.again in "".join(asked)
    repairs = [str(fact) for fact in found.facts if isinstance(fact, PlanRepaired | Noticed)]
    assert row.repaired in "".join(repairs)
    assert bool(row.repaired) == bool(repairs)
    if row.role == "answer" and not row.again:
        assert found.deltas.strip() == row.value


def test_thoughts_are_kept_apart(served: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reply = {"content": "<think>one</think>seven", "reasoning_content": "zero"}
    found, _ = played("answer", [reply], served, monkeypatch, tmp_path)
    assert (found.value, found.deltas) == ("seven", "seven")
    assert found.replies[0].reasoning.split() == ["zero", "one"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"content": "It is seven because", "finish_reason": "length"}, "cut"),
        ("", "empty"),
        ({"content": "", "refusal": "No."}, "refused"),
        (LOOPS, "over and over"),
    ],
)
def test_an_answer_that_is_never_whole_is_none(
    reply: Reply, said: str, served: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, asked = played("answer", [reply], served, monkeypatch, tmp_path)
    assert isinstance(found.value, ReplyUnusable)
    assert said in found.value.message
    assert len(asked) == 1


@pytest.mark.parametrize("role", ["planner", "reviser", "judge", "toolsmith", "coder", "caller"])
def test_empty_replies_end(
    role: str, served: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = served.arrived
    with suppress(ReplyUnusable):
        played(role, [""], served, monkeypatch, tmp_path)
    assert served.arrived - first <= 4
