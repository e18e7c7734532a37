"""Whether the piece of a document that answers a question is found: bench_documents.py [--other]

Made documents of three kinds (reference pages, a handbook, tickets) and 180 questions about each, which one
known piece answers; tests/known_items.py says how they are made. Once a question says an idea as the piece
does, once in another way. Is the piece the first that comes back, is it among the first 5? `--other`
takes another seed, which nothing was chosen on.

    plain BM25     as the engine ranks the pieces
    search         what the product does without vectors
    dense alone    the pieces whose vectors are nearest, of the small model or the one in BENCH_EMBED
    with dense     what the product does with them

What is not covered: how people ask. The first lines of docstrings, asked of the rest of them, gave smaller
differences: see docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from embedding import MISSING as NO_MODEL
from embedding import dense_model, vectors_of
from measuring import use_test_parts

from memory import CHUNK, Record, Scope
from memory.edge import EdgeStore
from memory.embedder import DenseVector
from memory.knowledge import KnowledgeBase, NewDocument
from memory.retrieval import retrieve
from memory.store import Memory, Query

ME = Scope()
FIRST = (1, 5)
OTHER_SEED = 2

Search = Callable[[Memory, str], list[Record]]


def by_bm25(memory: Memory, question: str) -> list[Record]:
    return [hit.record for hit in memory.search(Query(question, kinds=CHUNK, scope=ME, limit=FIRST[-1]))]


def by_dense(near: dict[str, DenseVector]) -> Search:
    def search(memory: Memory, question: str) -> list[Record]:
        found = memory.search(Query(near[question], kinds=CHUNK, scope=ME, limit=FIRST[-1]))
        return [hit.record for hit in found]

    return search


def by_retrieve(near: dict[str, DenseVector]) -> Search:
    def search(memory: Memory, question: str) -> list[Record]:
        found = retrieve(memory, question, kinds=CHUNK, scope=ME, limit=FIRST[-1], near=near.get(question))
        return [hit.record for hit in found]

    return search


def is_answer(record: Record, ref: str, heading: str) -> bool:
    headings, text = record.data["headings"], str(record.data["text"])
    above = headings if isinstance(headings, list) else []
    return record.session == ref and (heading in text or any(heading in str(one) for one in above))


def main() -> int:
    use_test_parts()
    from known_items import corpora

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--other", action="store_true", help="with another seed")
    made = list(corpora(OTHER_SEED) if parser.parse_args().other else corpora())
    dense = dense_model()
    rows: dict[str, list[tuple[float, float]]] = {}
    took: dict[str, float] = {}
    for corpus in made:
        with tempfile.TemporaryDirectory() as folder:
            store = EdgeStore(Path(folder))
            base = KnowledgeBase(store, ME, dense)
            documents = corpus.documents.items()
            base.put([NewDocument(ref, "file", ref, 10, document) for ref, document in documents], ME)
            near: dict[str, DenseVector] = {}
            ways: dict[str, Search] = {"plain BM25": by_bm25, "search": by_retrieve({})}
            if dense is not None:
                base.embed()
                near = dict(vectors_of(dense, (item.question for item in corpus.items)))
                ways |= {"dense alone": by_dense(near), "with dense": by_retrieve(near)}
            for name, search in ways.items():
                began = time.perf_counter()
                with store.opened() as memory:
                    found = [
                        [is_answer(one, item.ref, item.heading) for one in search(memory, item.question)]
                        for item in corpus.items
                    ]
                took[name] = took.get(name, 0.0) + time.perf_counter() - began
                one, five = (100 * sum(any(hits[:k]) for hits in found) / len(found) for k in FIRST)
                rows.setdefault(name, []).append((one, five))
    questions = sum(len(corpus.items) for corpus in made)
    print(f"  {questions} questions; recall@1 / recall@5 in percent")
    print(f"  {'':<14}{''.join(f'{name:^15}' for name in ('all', *(corpus.name for corpus in made)))}")
    for name, cells in rows.items():
        mean = tuple(sum(cell[k] for cell in cells) / len(cells) for k in (0, 1))
        shown = "".join(f"{one:6.1f} /{five:6.1f} " for one, five in (mean, *cells))
        print(f"  {name:<14}{shown}{1000 * took[name] / questions:7.1f} ms")
    print(f"  {'dense':<14}{dense.model if dense is not None else NO_MODEL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
