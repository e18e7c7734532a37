"""How long until `orch` says or asks something, against what importing LiteLLM alone takes.

python            an interpreter that does nothing
import litellm    without the price list that it would fetch
orch --version, orch --help, orch runs
first request     from Enter to the planner's request; the planner knows the answer
whole answer      from Enter to the end

The last three also with a resident process, as `warm`. Prefect's server runs already in all cases. After
that, the memory of ten commands that wait for their planner at once, as proportional set size: what they
share counts once.

Not covered: the very first command, which also starts Prefect's server.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import ROOT, clean_environment, end_server, median, show

REPEAT = 7
AT_ONCE = 10
ANSWER = {"id": "reply", "title": "Answer", "kind": "answer", "instruction": "It is known."}
PLAN = json.dumps({"goal": "it is answered", "subtasks": [ANSWER]})
ASK = ["ask", "-q", "What is known?"]


class Planner:
    """Behind HTTP in this process. Notes when it is asked, and answers at once unless it is held."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, _request: object, _n: int) -> str:
        self.asked.append(time.perf_counter())
        self.free.wait(120)
        return PLAN


@contextlib.contextmanager
def user(planner: Planner) -> Iterator[tuple[Path, dict[str, str]]]:
    """A workspace, and the environment of a user whose models are at the planner's."""
    sys.path.insert(0, str(ROOT / "tests"))
    from endpoint import Endpoint

    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder, Endpoint(planner) as endpoint:
        home, workspace = Path(folder, "home"), Path(folder, "workspace")
        home.mkdir(mode=0o700)
        workspace.mkdir()
        given = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none", "ORCH_MODEL": "openai/none"}
        env = {**clean_environment(), **given, "ORCH_HOME": str(home), "ORCH_REUSE": "never"}
        try:
            yield workspace, env
        finally:
            for number in residents(home):
                os.kill(number, signal.SIGTERM)
            end_server(home)


def residents(home: Path) -> list[int]:
    """Who holds the locks in the folder of residents."""
    inodes = {f":{lock.stat().st_ino}" for lock in (home / "resident").glob("*.lock")}
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    return [int(row[-4]) for row in rows if any(row[-3].endswith(inode) for inode in inodes)]


def with_children(number: int) -> Iterator[int]:
    """A process and all below it."""
    yield number
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from with_children(int(child))


def ask_seconds(orch: str, workspace: Path, env: dict[str, str], planner: Planner) -> tuple[float, float]:
    """To the planner's request, and to the end."""
    firsts, wholes = [], []
    for _ in range(REPEAT + 1):
        planner.asked.clear()
        began = time.perf_counter()
        subprocess.run([orch, *ASK], check=True, capture_output=True, env=env, cwd=workspace)
        wholes.append(time.perf_counter() - began)
        firsts.append(planner.asked[0] - began)
    return statistics.median(firsts[1:]), statistics.median(wholes[1:])


def share(number: int) -> int:
    """The proportional set size of a process, in bytes; that of Prefect's server does not count."""
    with contextlib.suppress(OSError):
        if b"engine.serving" not in Path(f"/proc/{number}/cmdline").read_bytes():
            rows = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            return next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) << 10
    return 0


def memory(orch: str, workspace: Path, env: dict[str, str], planner: Planner) -> int:
    """Bytes of commands at once, and of their resident."""
    planner.free.clear()
    planner.asked.clear()
    running = [
        subprocess.Popen(
            [orch, *ASK], stdout=subprocess.DEVNULL, env={**env, "ORCH_MAX_RUNS": "20"}, cwd=workspace
        )
        for _ in range(AT_ONCE)
    ]
    while len(planner.asked) < AT_ONCE:
        time.sleep(0.05)
    roots = [*(process.pid for process in running), *residents(Path(env["ORCH_HOME"]))]
    total = sum(share(number) for root in roots for number in with_children(root))
    planner.free.set()
    for process in running:
        process.wait()
    return total


def main() -> None:
    orch = str(Path(sys.executable).with_name("orch"))
    alone = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def take(command: list[str], env: dict[str, str]) -> float:
        subprocess.run(command, check=True, capture_output=True, env=env)  # files into the cache
        return median(lambda: subprocess.run(command, check=True, capture_output=True, env=env), REPEAT)

    rows = {
        "python -c pass": take([sys.executable, "-c", "pass"], alone),
        "import litellm": take([sys.executable, "-c", "import litellm"], alone),
    }
    planner = Planner()
    with user(planner) as (workspace, env):
        sizes = {}
        for resident in ("never", "always"):
            env["ORCH_RESIDENT"] = resident
            mark = "" if resident == "never" else ", warm"
            if resident == "always":
                subprocess.run([orch, "runs"], check=True, capture_output=True, env=env)
                while not [*Path(env["ORCH_HOME"], "resident").glob("*.sock")]:
                    time.sleep(0.1)
            for words in (["--version"], ["--help"], ["runs"]):
                rows[f"orch {words[0]}{mark}"] = take([orch, *words], env)
            first, whole = ask_seconds(orch, workspace, env, planner)
            rows[f"first request{mark}"], rows[f"whole answer{mark}"] = first, whole
            sizes[resident] = memory(orch, workspace, env, planner)
    show(rows, against="import litellm")
    cold, warm = sizes["never"], sizes["always"]
    print(f"  {AT_ONCE} at once, cold {cold / 2**20:8.0f} MB")
    print(f"  {AT_ONCE} at once, warm {warm / 2**20:8.0f} MB {warm / cold:8.2f} x")


if __name__ == "__main__":
    main()
