"""What a knowledge base costs: python benchmarks/bench_knowledge.py [--large]

Times of one run, and to the right what they are multiples of. `--large` fills it to above 10,000 pieces.

    add          1,000 Markdown files of 5 KB, read, parted and written
    refresh      the same, unchanged; a multiple of `add`
    changed      the same, of which ten have changed
    search       a question, with the opening of the store; median of twenty
    remove       one file, with the rebuild that erases its text

What is not covered: PDF and Office files, whose conversion takes what its libraries take.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memory import CHUNK, Scope, open_store
from memory.knowledge import KnowledgeBase
from memory.knowledge.documents import UnreadableDocument
from memory.knowledge.ingest import FetchedPage, Ingester

FILES, BYTES = 1_000, 5_000
MANY_PIECES = 10_000
SCOPE = Scope(project="bench")


def text(rng: random.Random, size: int) -> str:
    """Sections of sentences over some thousands of words."""
    lines: list[str] = []
    while sum(map(len, lines)) < size:
        lines.append(f"## Section {rng.randrange(1000)}\n")
        lines.append(" ".join(f"word{int(rng.paretovariate(0.7)) % 5000}" for _ in range(90)) + ".\n")
    return "\n".join(lines)[:size]


def no_page(url: str) -> FetchedPage:
    raise UnreadableDocument(url)


def no_conversion(_data: bytes, form: str) -> Mapping[str, Any]:
    raise UnreadableDocument(form)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench_knowledge")
    parser.add_argument("--large", action="store_true", help=f"fill it to above {MANY_PIECES:,} pieces")
    large = parser.parse_args().large
    rng = random.Random(5)
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch, "files"), open_store(Path(scratch, "knowledge"))
        folder.mkdir()
        for number in range(FILES):
            (folder / f"{number}.md").write_text(f"# File {number}\n\n{text(rng, BYTES)}")
        base = KnowledgeBase(store, SCOPE)

        def gathering() -> Ingester:
            return Ingester(base, SCOPE, convert=no_conversion, fetch=no_page)

        def searched() -> None:
            base.search(f"word{rng.randrange(5000)} word{rng.randrange(5000)} section", 5)

        def look() -> None:
            pieces = store.count(CHUNK, SCOPE)
            middle = statistics.median(timed(searched) for _ in range(20))
            bare = statistics.median(timed(lambda: store.count(CHUNK, SCOPE)) for _ in range(20))
            ratio = f"{middle / bare:.1f} times a bare opening of the store"
            print(f"search    {middle * 1000:9.1f} ms   at {pieces:,} pieces, {ratio}")

        added = timed(lambda: gathering().add([str(folder)]))
        each = f"{added / FILES * 1000:.1f} ms each"
        print(f"add       {added:9.2f} s    {FILES:,} files of {BYTES:,} bytes, {each}")
        same = timed(lambda: gathering().refresh())
        print(f"refresh   {same:9.2f} s    unchanged: {same / added:.3f} of add")
        for number in range(10):
            (folder / f"{number}.md").write_text(f"# File {number}\n\n{text(rng, BYTES)}")
        changed = timed(lambda: gathering().refresh())
        print(f"changed   {changed:9.2f} s    ten of them: {changed / added:.3f} of add")
        look()
        (folder / "11.md").unlink()
        print(f"remove    {timed(lambda: gathering().refresh()):9.2f} s    one file, found gone by a refresh")
        if large:
            number = FILES
            while store.count(CHUNK, SCOPE) < MANY_PIECES:
                for _ in range(FILES):
                    (folder / f"{number}.md").write_text(f"# File {number}\n\n{text(rng, BYTES)}")
                    number += 1
                gathering().refresh()
            look()
        store.close()


if __name__ == "__main__":
    main()
