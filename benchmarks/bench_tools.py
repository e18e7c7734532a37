"""Whether the one tool that serves a request is found: bench_tools.py [--large]

MetaTool: requests, and of 199 tools the one that serves each. For a share of the requests: is the tool the
first that comes back, is it among the first 5? Once as the tools are at first, known by name and description,
and once after each has served ten other requests of the set. A sample of 600 requests, with `--large` 3,000.
The set is looked for where BENCH_DATA says.

    search         the engine's BM25 over what is recorded of the tools
    recall         what a planner is shown: what serves, and a few that have something to do with the request
    dense alone    the tools whose vectors are nearest to that of the request, of the small model or
                   the one in BENCH_EMBED
    with dense     recall with that model
    said to serve  of those, what is said to serve

Then what it costs: libraries of 3, 30 and all 199 tools without the one that serves the request. Which share
of the requests is shown a tool all the same, for which share one is said to serve, and how many each request
is shown, a line for the planner each. Many of the tools do nearly the same, so often another one serves too.

The rule was chosen on every second request, beginning with the first; asked are the others. The requests that
a tool has served come from the same set as those that are asked: it is what use can bring at best.

What is not covered: whether a planner takes the tool.
"""

import argparse
import csv
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedding import MISSING as NO_MODEL
from embedding import Near, dense_model, vectors_of
from measuring import use_test_parts

from memory import TOOL, Hit, Scope, recall, tool_record
from memory.dense import Dense, fill_vectors
from memory.edge import EdgeStore
from memory.store import Memory, Query

SAMPLE, LARGE = 600, 3_000
USES = 10
LIBRARIES = (3, 30, 199)
DRAWN, EACH = 5, 50
"""So many libraries of each size, and requests that are asked of each."""
SEED = 0
ME = Scope()

Asked = tuple[str, str]
"""A request, and the tool that serves it."""
Find = Callable[[Memory, str], list[str]]


def read(folder: Path) -> tuple[dict[str, str], list[Asked]]:
    """The tools with their descriptions, and the requests in an order that is always the same."""
    tools = json.loads((folder / "tools.json").read_text(encoding="utf-8"))
    named = {name.casefold(): name for name in tools}
    with (folder / "dev.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["Query"], named.get(row["Tool"].casefold(), "")) for row in csv.DictReader(file)]
    asked = [row for row in rows if row[1]]
    random.Random(SEED).shuffle(asked)
    return tools, asked


def remember(store: EdgeStore, tools: dict[str, str], served: dict[str, list[str]]) -> None:
    store.add(
        tool_record(
            name=name, version="1", purpose=purpose, signature="()", scope=ME, prompts=served.get(name, [])
        )
        for name, purpose in tools.items()
    )


def by_search(memory: Memory, request: str) -> list[str]:
    return [hit.record.key for hit in memory.search(Query(request, kinds=TOOL, scope=ME, limit=5))]


def by_recall(memory: Memory, request: str) -> list[str]:
    return [tool.name for tool in recall(memory, request, scope=ME, max_tools=5).tools]


def sure_with_dense(near: Near) -> Find:
    def find(memory: Memory, request: str) -> list[str]:
        found = recall(memory, request, scope=ME, max_tools=5, near=near[request])
        return [tool.name for tool in found.tools if tool.serves]

    return find


def by_dense(near: Near) -> Find:
    def find(memory: Memory, request: str) -> list[str]:
        return [hit.record.key for hit in memory.search(Query(near[request], kinds=TOOL, scope=ME, limit=5))]

    return find


def with_dense(near: Near) -> Find:
    def find(memory: Memory, request: str) -> list[str]:
        found = recall(memory, request, scope=ME, max_tools=5, near=near[request])
        return [tool.name for tool in found.tools]

    return find


def measure(store: EdgeStore, asked: list[Asked], find: Find) -> tuple[float, float]:
    """recall@1 and recall@5, in percent."""
    with store.opened() as memory:
        found = [(find(memory, request), tool) for request, tool in asked]
    first = sum(names[:1] == [tool] for names, tool in found)
    return 100 * first / len(found), 100 * sum(tool in names for names, tool in found) / len(found)


class Without:
    """A memory that lacks one tool."""

    def __init__(self, memory: Memory, tool: str) -> None:
        self._memory, self._tool = memory, tool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        yield self

    def search(self, query: Query) -> list[Hit]:
        return [hit for hit in self._memory.search(query) if hit.record.key != self._tool]


def measure_needless(
    folder: Path,
    tools: dict[str, str],
    asked: list[Asked],
    size: int,
    dense: Dense | None = None,
    near: Near | None = None,
) -> tuple[float, float, float]:
    """Of requests whose tool is missing: the share shown one, the share shown one as serving, in percent,
    and how many each is shown."""
    chance, shown = random.Random(SEED), []
    for number in range(DRAWN):
        store = EdgeStore(folder / str(number))
        remember(store, {name: tools[name] for name in chance.sample(sorted(tools), size)}, {})
        if dense is not None:
            fill_vectors(store, dense, ME)
        with store.opened() as memory:
            for request, tool in asked[number::DRAWN][:EACH]:
                within: Any = Without(memory, tool)
                found = recall(within, request, scope=ME, near=near[request] if near else None).tools
                shown.append((len(found), sum(one.serves for one in found)))
    of = len(shown)
    shares = [100 * sum(bool(row[k]) for row in shown) / of for k in (0, 1)]
    return shares[0], shares[1], sum(row[0] for row in shown) / of


def main() -> int:
    use_test_parts()
    from datasets import DATA, MISSING, have

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--large", action="store_true", help=f"ask {LARGE:,} requests instead of {SAMPLE}")
    options = parser.parse_args()
    if not have("metatool"):
        print(f"  left out: {MISSING}")
        return 0
    tools, rows = read(DATA / "metatool")
    asked, rest = rows[1 : 2 * (LARGE if options.large else SAMPLE) : 2], rows[2 * LARGE :]
    served: dict[str, list[str]] = {}
    for request, tool in rest:
        if len(served.setdefault(tool, [])) < USES:
            served[tool].append(request)
    print(f"  {len(tools)} tools, {len(asked)} requests; recall@1 / recall@5 in percent")
    dense, ways = dense_model(), [("search", by_search), ("recall", by_recall)]
    near: Near | None = None
    if dense is not None:
        near = vectors_of(dense, (request for request, _ in asked))
        ways += [("dense alone", by_dense(near)), ("with dense", with_dense(near))]
        ways += [("said to serve", sure_with_dense(near))]
    else:
        print(f"  dense       {NO_MODEL}")
    with tempfile.TemporaryDirectory() as folder:
        for state, known in (("fresh", {}), (f"after {USES} uses", served)):
            store = EdgeStore(Path(folder, state.replace(" ", "-")))
            remember(store, tools, known)
            if dense is not None:
                fill_vectors(store, dense, ME)
            for name, find in ways:
                one, five = measure(store, asked, find)
                print(f"  {state:<14}{name:<14}{one:6.1f} /{five:6.1f}")
        print("  where none serves: requests that are shown a tool, those for which one is said to serve,")
        print("  in percent; and how many each is shown")
        needless: list[tuple[str, Dense | None, Near | None]] = [("recall", None, None)]
        needless += [("with dense", dense, near)] if dense is not None else []
        for name, model, vectors in needless:
            for size in LIBRARIES:
                place = Path(folder, f"{name}-{size}")
                share, sure, shown = measure_needless(place, tools, asked, size, model, vectors)
                print(f"  {size:>3} tools     {name:<12}{share:6.0f} /{sure:6.0f} /{shown:6.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
