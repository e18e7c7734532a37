"""What a person is asked: whether a plan or a change of it may run, a subtask may start, files may change.

A plan can come back edited, as YAML. If the edited plan has faults, it is asked about again with the
faults at its top, until it is valid or refused.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import ApprovalBroker, Question
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.errors import NotApproved
from orchestrator_cli.events import ApprovalAsked, ApprovalGiven, Fact, PlanApproved, PlanRepaired
from orchestrator_cli.plan import Catalogue, Patch, Plan, PlanFault, Result, Subtask, resolve
from orchestrator_cli.planning.patching import PatchRefused
from orchestrator_cli.planning.plan_text import edited_text, is_empty, patch_text, plan_text, read_plan_text
from orchestrator_cli.planning.structured_output import Unusable
from orchestrator_cli.tools.file_rules import executes
from orchestrator_cli.workspace.changed import ChangedFile
from orchestrator_cli.workspace.diff import readable
from orchestrator_cli.workspace.executes import Executed

RUN_IT = "Run this plan?"
ROUNDS = 20
DETAIL_CHARS = 4_000
NAME_CHARS = 2_000
DIFF_CHARS = 60_000
"""Files are asked about in several questions if their names or diffs are longer than one of these."""
_WORD = re.compile(r"[\w.~/@+-]+")
_NOT_A_NAME = re.compile(r"[^\S ]|^ | $|  |[\x00-\x1f,;:?()\"\\]")


AGAIN, ACCEPT, STOP = "again", "accept", "stop"


def changed_files_question(changed: Sequence[ChangedFile], stops: int) -> Question:
    """What to do about files that finished subtasks made and that are gone or changed since.

    `stops`: how often that was answered with `stop`, after which it is asked again.
    """
    rows = [[one.path, str(one.author), one.author.attempt, one.sha256] for one in changed]
    return Question(
        what="question",
        subject="",
        question="Files that finished subtasks made are gone or changed. Do those subtasks again, with all "
        "that depend on them; accept the files as they are; or stop?",
        details="\n".join(map(str, changed)),
        result={"enum": [AGAIN, ACCEPT, STOP]},
        sense=json.dumps([rows, stops]),
    )


# --- plans


def approved_plan(
    plan: Plan,
    catalogue: Catalogue,
    *,
    broker: ApprovalBroker,
    cancellation: Cancellation,
    emit: Callable[[Fact], None],
) -> Plan:
    """The plan as the person approved it. Raises `NotApproved` and `ApprovalNeeded`."""
    question, text = RUN_IT, plan_text(plan)
    for round_ in range(1, ROUNDS + 1):
        asked = Question(what="plan", subject=f"version {plan.version}", question=question, details=text)
        given = broker.ask(asked, cancellation)
        written = given.value if isinstance(given.value, str) else text
        if given.decision == "no" or is_empty(written):
            raise NotApproved(
                f"The plan was not approved{given.reason or '.'}",
                "Nothing was done. Ask again in other words.",
            )
        if written == text and round_ == 1:
            emit(PlanApproved(plan=plan))
            return plan
        try:
            edited, repairs = read_plan_text(written, catalogue)
        except Unusable as exc:
            # The round makes it another question, even if the text did not change.
            question = f"The plan as you edited it cannot run. Edit it again? (round {round_ + 1})"
            text = edited_text(written, exc.faults)
            continue
        if repairs:
            emit(PlanRepaired(repairs=tuple(map(str, repairs))))
        edited = edited.model_copy(update={"version": plan.version, "routes": plan.routes})
        emit(PlanApproved(plan=edited, edited=edited != plan))
        return edited
    raise NotApproved(f"The plan still had faults after it was edited {ROUNDS} times.", "Nothing was done.")


def check_patch_approval(
    patch: Patch, plan: Plan, *, broker: ApprovalBroker, cancellation: Cancellation
) -> None:
    """Ask about a change of the plan, if the policy wants that.

    Raises `PatchRefused` with the person's reason, and `ApprovalNeeded`.
    """
    if not broker.needs("plan"):
        return
    question = Question(
        what="plan",
        subject=f"version {patch.base_version + 1}",
        question=f"Change the plan? {patch.reason}",
        details=patch_text(patch, plan),
    )
    given = broker.ask(question, cancellation)
    if given.decision == "no":
        refusal = f"the user did not approve this change{given.reason}"
        raise PatchRefused([PlanFault(subtask="plan", field="reason", message=refusal)])


# --- subtasks and their files


def question_before(subtask: Subtask, results: Mapping[str, Result]) -> Question | None:
    """The question to be answered before a subtask starts, if any.

    None as well if its inputs cannot be had, which fails it when it starts.
    """
    if subtask.kind != "human" and not subtask.approve:
        return None
    try:
        inputs = resolve(subtask.inputs, results)
    except KeyError:
        return None
    return subtask_question(subtask, inputs if isinstance(inputs, dict) else {})


def withdraw_outdated(broker: ApprovalBroker, plan: Plan, results: Mapping[str, Result]) -> None:
    """Withdraw the questions that no subtask of a plan waits for any more."""
    asked = (question_before(subtask, results) for subtask in plan.subtasks)
    wanted = {question.id for question in asked if question is not None}
    for question in broker.open:
        if question.what in ("question", "subtask") and question.id not in wanted:
            broker.withdraw(question)


def subtask_question(subtask: Subtask, inputs: Mapping[str, JsonValue]) -> Question:
    """The question of a subtask whose inputs are resolved."""
    details = _cut(json.dumps(inputs, ensure_ascii=False, indent=2), DETAIL_CHARS) if inputs else ""
    if subtask.kind == "human":
        return Question(
            what="question",
            subject=subtask.id,
            question=subtask.instruction,
            details=details,
            result=subtask.result,
        )
    text = f"May {subtask.id} start? {subtask.title}: {subtask.instruction}".strip(": ")
    return Question(what="subtask", subject=subtask.id, question=text, details=details)


class _Part(NamedTuple):
    """What a question is asked about: a file, or a path with what is below it."""

    item: str
    name: str
    wants: str
    diff: str


def executes_questions(
    subtask: str, executed: Sequence[Executed], named: Mapping[str, str], diffs: Mapping[str, Sequence[str]]
) -> list[Question]:
    """Whether a run may change what is executed or obeyed later; a yes is for the whole run.

    What a yes allows is always named. The same paths are the same question, whatever is in them, because an
    attempt that is made again after the answer may write it in other words.

    Args:
        named: what else the plan names, with the reason for each; left out if it needs a further question.
        diffs: the lines of the diff of each path.
    """
    reasons: dict[str, str] = {}
    paths: dict[str, list[str]] = {}
    for one in executed:
        reasons[one.root] = one.why
        paths[one.root] = sorted({*paths.get(one.root, ()), *one.paths})
    parts = [_part(root, reasons[root], paths[root], diffs) for root in sorted(reasons)]
    more = [_part(root, why, (), diffs) for root, why in named.items() if root not in reasons]
    whole = [sorted([*parts, *more])]
    shares = whole if len(list(_shares(whole[0]))) == 1 else list(_shares(parts))
    return [
        Question(
            what="executes",
            subject=share[0].item,
            question=f"{subtask} wants to change {', '.join(part.wants for part in share if part.wants)}. "
            f"May the run change {'; '.join(part.name for part in share)}?",
            details=_cut("\n".join(part.diff for part in share if part.diff), DIFF_CHARS),
            items=tuple(part.item for part in share),
            sense="\n".join(part.item for part in share),
        )
        for share in shares
    ]


def _part(root: str, why: str, paths: Sequence[str], diffs: Mapping[str, Sequence[str]]) -> _Part:
    wants = ", ".join(map(_name, paths))
    if len(wants) > NAME_CHARS // 2 and len(paths) > 1:
        wants = f"{len(paths):,} files of {_name(root)}"
    diff = "\n".join(line for path in paths for line in readable(diffs.get(path, ())))
    return _Part(root, f"{_name(root)} ({on_one_line(why)})", wants, diff)


def _shares(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """The parts of each question. One that is too long by itself has a question of its own."""
    share: list[_Part] = []
    names = shown = 0
    for part in parts:
        names += len(part.name) + len(part.wants)
        shown += len(part.diff) + 1
        if share and (names > NAME_CHARS or shown > DIFF_CHARS):
            yield share
            share, names, shown = [], len(part.name) + len(part.wants), len(part.diff) + 1
        share.append(part)
    yield share


def allowed_to_execute(
    asked: Mapping[str, ApprovalAsked], given: Mapping[str, ApprovalGiven]
) -> frozenset[str]:
    """The paths that a person has allowed a run to change although they are executed later."""
    yes = (one for one in asked.values() if one.id in given and given[one.id].decision == "yes")
    return frozenset(path for one in yes if one.what == "executes" for path in one.items)


def named_in_plan(subtasks: Iterable[Subtask]) -> dict[str, str]:
    """What is executed later and named in the words of subtasks that work on files, with the reasons."""
    found = {}
    for subtask in subtasks:
        if subtask.kind in ("agent", "tool", "process"):
            words = f"{subtask.title} {subtask.instruction} {json.dumps(subtask.inputs, ensure_ascii=False)}"
            for word in _WORD.findall(words):
                hit = executes.within(word.rstrip(".").removeprefix("./"))
                if hit is not None and not hit[1].only:
                    found[hit[0]] = hit[1].why
    return found


def writes_questions(
    subtask: str, files: Sequence[str], diffs: Mapping[str, Sequence[str]]
) -> list[Question]:
    """Whether the files an attempt wrote may be committed, all or none.

    A different diff is a different question.
    """
    lines = {file: diffs.get(file.rstrip("/"), ()) for file in files}
    parts = [_Part(file, _name(file), "", "\n".join(readable(lines[file]))) for file in files]
    shares = list(_shares(parts))
    questions = []
    for number, share in enumerate(shares, 1):
        count = f"{len(share):,} file" if len(share) == 1 else f"{len(share):,} files"
        of_all = f", part {number} of {len(shares)}" if len(shares) > 1 else ""
        diff = "\n".join(line for part in share for line in lines[part.item])
        questions.append(
            Question(
                what="writes",
                subject=subtask,
                question=f"May {subtask} change {count}{of_all}? {', '.join(part.name for part in share)}",
                details=_cut("\n".join(part.diff for part in share if part.diff), DIFF_CHARS),
                sense=hashlib.sha256(diff.encode("utf-8", "surrogateescape")).hexdigest(),
            )
        )
    return questions


def _name(path: str) -> str:
    """A name within a sentence: one that could be more than a name is quoted."""
    return on_one_line(json.dumps(path, ensure_ascii=False) if _NOT_A_NAME.search(path) else path)


def _cut(text: str, limit: int) -> str:
    """The beginning of a text, with a line above it that says how much is missing."""
    if len(text) <= limit:
        return text
    head = f"The first {limit:,} of {len(text):,} characters:\n"
    return head + text[: limit - len(head)]
