"""How many of the turns that hold the answer are found: bench_locomo.py [--split]

LoCoMo: long conversations of two people over months, and questions with the turns that answer them. For each
question the share of those turns among the first 5 and the first 10 that come back (recall@5, recall@10),
averaged over the questions; no model, no key, no download. The set is looked for where BENCH_DATA says.

    plain BM25     the words of a turn alone, as the engine ranks them
    with prefix    the same with day and speaker before them
    retrieve       what the product does
    dense alone    the turns whose vectors are nearest to that of the question, of the small model, or the
                   one in BENCH_EMBED
    with dense     what the product does with that model

Category 5 asks about the wrong person on purpose. The weights were chosen on conversations A; `--split` shows
A and B apart.

What is not covered: whether a model answers rightly with what was found.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedding import MISSING as NO_MODEL
from embedding import Near, dense_model, vectors_of
from measuring import use_test_parts

from memory import TURN, Record, Scope
from memory.dense import Dense, fill_vectors
from memory.edge import EdgeStore
from memory.retrieval import retrieve
from memory.sessions import turn_record
from memory.store import Memory, Query

CATEGORIES = {1: "several turns", 2: "time", 3: "world knowledge", 4: "one turn", 5: "wrong person"}
AMONG = (5, 10)
CHOSEN_ON = (0, 2, 4)
WHEN = "%I:%M %p on %d %B, %Y"

Search = Callable[[Memory, str, Scope], list[str]]


@dataclass(frozen=True)
class Question:
    text: str
    evidence: frozenset[str]
    category: int


@dataclass(frozen=True)
class Conversation:
    name: str
    turns: list[Record]
    questions: list[Question]

    @property
    def scope(self) -> Scope:
        return Scope(user=self.name)


def conversations(file: Path) -> Iterator[Conversation]:
    for sample in json.loads(file.read_text(encoding="utf-8")):
        name = sample["sample_id"]
        turns = list(turns_of(sample["conversation"], Scope(user=name)))
        known = {str(turn.data["id"]) for turn in turns}
        yield Conversation(name, turns, list(questions_of(sample["qa"], known)))


def turns_of(conversation: dict[str, Any], scope: Scope) -> Iterator[Record]:
    for number in range(1, 100):
        session = f"session_{number}"
        for seq, turn in enumerate(conversation.get(session, [])):
            said = datetime.strptime(conversation[f"{session}_date_time"], WHEN).replace(tzinfo=UTC)
            shown = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            record = turn_record(
                session=session,
                seq=seq,
                speaker=turn["speaker"],
                text=turn["text"] + shown,
                time=said,
                scope=scope,
            )
            yield record.model_copy(update={"data": {**record.data, "id": turn["dia_id"]}})


def questions_of(rows: list[dict[str, Any]], known: set[str]) -> Iterator[Question]:
    for row in rows:
        named = re.findall(r"D(\d+):0*(\d+)", " ".join(row.get("evidence") or []))
        evidence = frozenset(f"D{session}:{turn}" for session, turn in named) & known
        if evidence:
            yield Question(row["question"], evidence, row["category"])


def by_bm25(memory: Memory, question: str, scope: Scope) -> list[str]:
    return [
        str(hit.record.data["id"])
        for hit in memory.search(Query(question, kinds=TURN, scope=scope, limit=AMONG[-1]))
    ]


def by_retrieve(memory: Memory, question: str, scope: Scope) -> list[str]:
    hits = retrieve(memory, question, kinds=TURN, scope=scope, limit=AMONG[-1])
    return [str(hit.record.data["id"]) for hit in hits]


def by_dense(near: Near) -> Search:
    def search(memory: Memory, question: str, scope: Scope) -> list[str]:
        hits = memory.search(Query(near[question], kinds=TURN, scope=scope, limit=AMONG[-1]))
        return [str(hit.record.data["id"]) for hit in hits]

    return search


def with_dense(near: Near) -> Search:
    def search(memory: Memory, question: str, scope: Scope) -> list[str]:
        hits = retrieve(memory, question, kinds=TURN, scope=scope, limit=AMONG[-1], near=near[question])
        return [str(hit.record.data["id"]) for hit in hits]

    return search


@dataclass(frozen=True)
class Outcome:
    conversation: int
    category: int
    recall: dict[int, float]


def measure(store: EdgeStore, found: list[Conversation], search: Search) -> tuple[list[Outcome], float]:
    """What came of each question, and the milliseconds that one took."""
    outcomes = []
    with store.opened() as memory:
        started = time.perf_counter()
        for number, conversation in enumerate(found):
            for question in conversation.questions:
                ranked = search(memory, question.text, conversation.scope)
                recall = {
                    k: len(question.evidence.intersection(ranked[:k])) / len(question.evidence) for k in AMONG
                }
                outcomes.append(Outcome(number, question.category, recall))
        return outcomes, 1000 * (time.perf_counter() - started) / len(outcomes)


def show(name: str, outcomes: list[Outcome], ms: float | None = None) -> None:
    by_category: defaultdict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_category[outcome.category].append(outcome)
    cells = [f"{cell(by_category[category])}" for category in CATEGORIES]
    taken = f"{ms:7.1f} ms" if ms is not None else ""
    print(f"  {name:<14}{'  '.join([cell(outcomes), *cells])}{taken}")


def cell(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return f"{'-':^15}"
    at = [100 * sum(outcome.recall[k] for outcome in outcomes) / len(outcomes) for k in AMONG]
    return f"{at[0]:6.1f} /{at[1]:6.1f} "


def main() -> int:
    use_test_parts()
    from datasets import DATA, MISSING, have

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--split", action="store_true", help="also the two parts of the set by themselves")
    options = parser.parse_args()
    if not have("locomo"):
        print(f"  left out: {MISSING}")
        return 0
    found = list(conversations(DATA / "locomo" / "dev.json"))
    questions = sum(len(conversation.questions) for conversation in found)
    print(
        f"  {sum(len(c.turns) for c in found)} turns, {questions} questions; recall@5 / recall@10 in percent"
    )
    print(f"  {'':<14}{'  '.join(f'{name:^15}' for name in ('all', *CATEGORIES.values()))}")
    with tempfile.TemporaryDirectory() as folder:
        plain, store = EdgeStore(Path(folder, "plain")), EdgeStore(Path(folder, "turns"))
        for conversation in found:
            store.add(conversation.turns)
            plain.add(turn.model_copy(update={"text": str(turn.data["text"])}) for turn in conversation.turns)
        show("plain BM25", *measure(plain, found, by_bm25))
        show("with prefix", *measure(store, found, by_bm25))
        show_parts("retrieve", *measure(store, found, by_retrieve), split=options.split)
        dense = dense_model()
        if dense is None:
            print(f"  {'dense':<14}{NO_MODEL}")
        else:
            measure_dense(store, found, dense, split=options.split)
    return 0


def measure_dense(store: EdgeStore, found: list[Conversation], dense: Dense, *, split: bool) -> None:
    for conversation in found:
        fill_vectors(store, dense, conversation.scope)
    near = vectors_of(dense, (question.text for c in found for question in c.questions))
    show("dense alone", *measure(store, found, by_dense(near)))
    show_parts("with dense", *measure(store, found, with_dense(near)), split=split)
    print(f"  {'':<14}dense: {dense.model}, {len(next(iter(near.values())).values)} numbers")


def show_parts(name: str, outcomes: list[Outcome], ms: float, *, split: bool) -> None:
    show(name, outcomes, ms)
    if split:
        show("  A, chosen on", [outcome for outcome in outcomes if outcome.conversation in CHOSEN_ON])
        show("  B, looked at", [outcome for outcome in outcomes if outcome.conversation not in CHOSEN_ON])


if __name__ == "__main__":
    sys.exit(main())
