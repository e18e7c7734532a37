"""Questions that were asked again and again with the same answer, so that the answer could be a fact. Pure.

    for one in asked_again(runs, facts):
        print(one.times, one.fact)

Only what the runs themselves found counts: not an answer that may repeat what others wrote (see `distiller`),
and none of a run that failed, was undone or that the user called bad. Nothing is remembered here: what was
true three times may change, so it is for the user to say that it holds.

Not covered: the same question in other words; prompts that ask for work.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from memory.learning import verdict_of
from memory.records import Record

TIMES = 3
"""So often a question has to be asked, and the same answer given last."""
DAYS = 2
"""On so many days: within one hour, someone tries something."""
FACT_CHARS = 400
"""A longer answer is no fact."""
_ENDS = "?？؟;"


@dataclass(frozen=True)
class AskedAgain:
    """A question with its answer, as they were said last."""

    question: str
    answer: str
    times: int
    last: datetime

    @property
    def fact(self) -> str:
        return f"{self.question} {self.answer}"


def asked_again(runs: Iterable[Record], facts: Iterable[Record] = ()) -> tuple[AskedAgain, ...]:
    """The questions among the prompts of runs, the most frequent first. What a fact says is left out."""
    groups: dict[str, list[Record]] = {}
    for run in sorted(runs, key=lambda run: run.created):
        if run.text.rstrip().endswith(tuple(_ENDS)):
            groups.setdefault(_plain(run.text), []).append(run)
    known = [_plain(fact.text) for fact in facts]
    found = [one for group in groups.values() if (one := _steady(group)) is not None]
    unknown = (one for one in found if not any(_plain(one.answer) in fact for fact in known))
    return tuple(sorted(unknown, key=lambda one: (-one.times, one.question)))


def _steady(runs: list[Record]) -> AskedAgain | None:
    """What was asked in all of these runs, oldest first; None unless the last of them agree on an answer."""
    newest, answers = runs[-TIMES:], {_plain(_answer(run)) for run in runs[-TIMES:]}
    days = {run.created.date() for run in runs}
    if len(newest) < TIMES or len(days) < DAYS or len(answers) != 1 or not all(map(_counts, newest)):
        return None
    last = runs[-1]
    found = AskedAgain(" ".join(last.text.split()), " ".join(_answer(last).split()), len(runs), last.created)
    return found if found.answer and len(found.fact) <= FACT_CHARS else None


def _counts(run: Record) -> bool:
    return run.is_own and not run.data.get("outside", True) and verdict_of(run.data) == "good"


def _answer(run: Record) -> str:
    return str(run.data.get("answer_summary") or "")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(f"{_ENDS}.! ")
