"""Every fault of a provider at every model call of the demo in turn: python -m benchmarks.fault_matrix

Each run is the demo's prompt with its recorded replies over HTTP, but for one fault at one call.

    once      the fault is met once; `orch` may try again
    ends      no call is tried again, so that a fault of the provider ends the run; then it is resumed

A run went right where new.txt is as without faults and the exit code is 0. It failed clearly where
the exit code is another of the documented ones and the message says what to do. All else is wrong: a
traceback, a hang, something unforeseen. --mode and --only choose a part of it; the whole takes a
quarter of an hour.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "orchestrator_cli")]

MODES = ("once", "ends")
CODES = {0, 1, 2, 3, 4, 5, 6, 124, 130}
RUN_S = 90
MODEL_S = "6"
"""Long enough for a call on a busy machine, for the others are to be in time."""


def main() -> int:
    from replay import FAULTS, PASSING

    from orchestrator_cli.cli.commands.ask import recording_path
    from orchestrator_cli.models.sources import Recording

    parser = argparse.ArgumentParser(prog="python -m benchmarks.fault_matrix")
    parser.add_argument("--only", choices=FAULTS, help="one fault of them")
    parser.add_argument("--mode", choices=MODES, help="one mode of them")
    options = parser.parse_args()
    recording = Recording.read(recording_path(again=False))
    failed = 0
    with users() as run_by:
        right = run_by.run(recording, "", ())[0].file("new.txt")
        for mode, faults in zip(MODES, (FAULTS, PASSING), strict=True):
            for fault in faults:
                if options.only in (None, fault) and options.mode in (None, mode):
                    failed += column(run_by, recording, mode, fault, right)
    return int(failed > 0)


def column(users: "Users", recording: Any, mode: str, fault: str, right: str) -> int:
    """One fault at every call; prints how the runs ended, and returns how many went wrong."""
    started, counts, seconds = time.monotonic(), Counter[str](), 0.0
    for name in recording.exchanges:
        env = {"ORCH_MODEL_RETRIES": "0"} if mode == "ends" else {}
        orch, done, met = users.run(recording, fault, (name,), **env)
        ended = verdict(orch, done, right)
        if ended.startswith("exit") and mode == "ends":
            again = users.resume(orch, recording)
            ended += f", resumed: {verdict(orch, again, right)}"
        if not met:
            ended = "not met"
        counts[ended] += 1
        seconds = max(seconds, done.seconds)
        if "wrong" in ended or ended == "not met":
            print(f"    {fault} at {name}: {ended}\n{done.err}", flush=True)
    listed = "; ".join(f"{number} {ended}" for ended, number in counts.most_common())
    took = time.monotonic() - started
    print(f"  {mode} {fault:<7} {listed}   ({took:.0f} s, the longest run {seconds:.1f} s)", flush=True)
    return sum(number for ended, number in counts.items() if "wrong" in ended or ended == "not met")


def verdict(orch: Any, done: Any, right: str) -> str:
    loud = "Traceback" in done.err or "Something unforeseen" in done.err or done.code not in CODES
    if loud or done.seconds > RUN_S or orch.remains():
        return f"wrong (exit {done.code})"
    if done.code == 0:
        path = orch.workspace / "new.txt"
        return "right" if path.is_file() and path.read_text() == right else "wrong (another new.txt)"
    return f"exit {done.code}" if len(done.error.split(".")) > 1 else f"wrong (exit {done.code}, no remedy)"


class Users:
    """Makes users of `orch`, each with a home, a workspace and an endpoint of its own."""

    def __init__(self, folder: Path, prefect: Path, warm: Any) -> None:
        self._folder = folder
        self._prefect = prefect
        self._warm = warm
        self._made = 0

    def run(self, recording: Any, fault: str, places: tuple[str, ...], **env: str) -> tuple[Any, Any, bool]:
        """A user, how its run of the demo's prompt ended, and whether the fault was met."""
        from command import Orch
        from endpoint import Endpoint
        from replay import Replay
        from scripted_model import MODELS

        from orchestrator_cli.cli.commands.ask import PROMPT

        self._made += 1
        folder = self._folder / str(self._made)
        (folder / "home").mkdir(parents=True)
        (folder / "workspace").mkdir()
        replay = Replay(recording, dict.fromkeys(places, fault))
        base = {"ORCH_PREFECT_HOME": str(self._prefect), "OPENAI_API_KEY": "none", **MODELS}
        with Endpoint(replay) as endpoint:
            orch = Orch(folder / "home", folder / "workspace", self._warm, base)
            env |= {"OPENAI_BASE_URL": endpoint.url}
            if fault == "late":
                env["ORCH_MODEL_TIMEOUT"] = MODEL_S
            return orch, orch("ask", PROMPT, timeout=RUN_S, **env), not places or bool(replay.met)

    def resume(self, orch: Any, recording: Any) -> Any:
        """How the user's run ends when it is gone on with, now without faults."""
        from endpoint import Endpoint
        from replay import Replay

        with Endpoint(Replay(recording)) as endpoint:
            name = orch.journal().parent.name
            return orch("resume", name, timeout=RUN_S, OPENAI_BASE_URL=endpoint.url)


@contextmanager
def users() -> Iterator[Users]:
    from engine import end, start_server
    from forkserver import Warm

    from orchestrator_cli.cancellation import Cancellation
    from orchestrator_cli.engine import server as prefect_server

    with tempfile.TemporaryDirectory(prefix="orch-faults-") as name:
        folder = Path(name)
        prefect = folder / "prefect"
        prefect.mkdir()
        try:
            url = start_server(prefect)
            warm = Warm(url, prefect)
            prefect_server.await_server(url, prefect, Cancellation())
            yield Users(folder, prefect, warm)
            warm.close()
        finally:
            if found := prefect_server.running_server(prefect):
                end(found.pid)


if __name__ == "__main__":
    sys.exit(main())
