"""Six small runs beside a map of a thousand items, all on one data folder, each a process of its own.

The model is behind HTTP and takes 100 ms for each reply. A small run is a planner, three agents side by
side, one that needs them all, and an answer. Printed: the small runs alone, one after the other; the same
beside the map, two at once; and the map. Each of them has to be complete, whatever it takes.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import clean_environment, place, show, use_test_parts

LATENCY_S = 0.1
ITEMS, SMALL, AT_ONCE = 1000, 6, 2
FINISH = {"answer": "found"}


def reply(request: Mapping[str, Any], _n: int) -> dict[str, Any]:
    from endpoint import call, texts_of
    from scripted_model import caller, plan

    text = texts_of(request)
    if request["model"] == "planner" and "the map" in text:
        each = caller("each", ["list"], for_each="$list.value", inputs={"n": "$item"})
        said: Any = {"content": plan(caller("list", result={"type": "array"}), each)}
    elif request["model"] == "planner":
        parts = [caller(f"part{n}") for n in range(3)]
        said = {"content": plan(*parts, caller("join", [part["id"] for part in parts]))}
    elif request["model"] == "agent":
        wants_list = "Do the work of list." in text
        said = call("final_answer", {"answer": list(range(ITEMS))} if wants_list else FINISH)
    else:
        said = {"content": "All is done."}
    return {**said, "sleep": LATENCY_S}


@dataclass(frozen=True)
class Ended:
    code: int
    seconds: float
    finished: int
    """Subtasks, and items of a map."""


def ask(prompt: str, folder: Path, env: Mapping[str, str], *flags: str) -> Ended:
    folder.mkdir(parents=True, exist_ok=True)
    since = time.perf_counter()
    command = [sys.executable, "-m", "orchestrator_cli", "ask", prompt, "--json", *flags]
    done = subprocess.run(
        command, cwd=folder, env={**clean_environment(), **env}, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - since
    run = json.loads(done.stdout)["run"] if done.stdout else ""
    path = Path(env["ORCH_HOME"], "runs", run, "journal.jsonl")
    rows = path.read_text().splitlines() if run else []
    return Ended(done.returncode, took, sum('"kind":"SubtaskFinished"' in row for row in rows))


def main() -> int:
    use_test_parts()
    from endpoint import Endpoint
    from scripted_model import MODELS

    with place() as found, Endpoint(reply) as endpoint:
        env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none", **MODELS}
        env |= {"ORCH_HOME": str(found.home), "ORCH_REUSE": "never"}
        folder = found.workspace
        alone = [ask("Do a little.", folder / "alone", env) for _ in range(SMALL)]
        with ThreadPoolExecutor(1 + AT_ONCE) as pool:
            limits = ("--max-calls", str(2 * ITEMS), "--max-parallel", "8")
            mapped = pool.submit(ask, "Do the map.", folder / "map", env, *limits)
            time.sleep(10)  # until its items are under way
            small = list(pool.map(lambda n: ask("Do a little.", folder / f"small{n}", env), range(SMALL)))
            was_beside = not mapped.done()
            large = mapped.result()
    rows = {
        "a small run alone": statistics.median(one.seconds for one in alone),
        "a small run beside the map": statistics.median(one.seconds for one in small),
        "the slowest of them": max(one.seconds for one in small),
        "the map": large.seconds,
    }
    show(rows, against="a small run alone")
    whole = [*alone, *small]
    complete = sum((one.code, one.finished) == (0, 4) for one in whole)
    print(
        f"  complete: {complete} of {len(whole)} small runs, {large.finished - 2} of {ITEMS} items of the map"
    )
    print(f"  the map was under way until the last small run had ended: {'yes' if was_beside else 'no'}")
    return int(complete < len(whole) or (large.code, large.finished) != (0, ITEMS + 2))


if __name__ == "__main__":
    sys.exit(main())
