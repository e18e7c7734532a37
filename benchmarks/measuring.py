"""What the benchmarks share: medians, a table of times and ratios, and a private place to run in."""

import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median(action: Callable[[], object], repeat: int) -> float:
    return statistics.median(seconds(action) for _ in range(repeat))


def show(rows: Mapping[str, float], against: str) -> None:
    """Print each time in milliseconds, and as a multiple of the one named `against`."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {name:<{width}} {1000 * value:10.2f} ms {value / rows[against]:8.2f} x")


@contextlib.contextmanager
def place(**flags: Any) -> Iterator[Any]:
    """Settings with a home, a workspace and a warm Prefect server of their own, all gone afterwards.

    Everything that a run imports has been imported.
    """
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as folder:
        home, workspace = Path(folder, "home"), Path(folder, "workspace")
        home.mkdir(mode=0o700)
        workspace.mkdir()
        for name in list(os.environ):
            if name.startswith(("ORCH_", "PREFECT_")):
                del os.environ[name]
        os.environ["ORCH_HOME"] = str(home)

        from orchestrator_cli.cancellation import Cancellation
        from orchestrator_cli.engine import server as prefect_server
        from orchestrator_cli.settings import load_settings

        try:
            url = prefect_server.ensure_server(home, idle_minutes=30)
            prefect_server.configure_client(url, home)
            prefect_server.import_prefect()
            _import()
            prefect_server.await_server(url, home, Cancellation())
            # What is measured again and again is planned each time.
            yield load_settings({"reuse": "never", **flags}, workspace)
        finally:
            _flush_logs()
            end_server(home)


def _import() -> None:

    from orchestrator_cli.models.library import prepare

    prepare()


def _flush_logs() -> None:
    """Prefect's client sends its log lines in the background, and complains when the server has gone."""
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)


def end_server(home: Path) -> None:
    """End the Prefect server of a home, if there is one."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        pid = int(json.loads((home / "prefect" / "server.json").read_text())["pid"])
        os.kill(pid, signal.SIGTERM)
        for _ in range(200):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            os.kill(pid, 0)
            time.sleep(0.05)


def clean_environment() -> dict[str, str]:
    """For processes of their own: without what `place` has set for this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ORCH_", "PREFECT_"))}


def run(prompt: str, settings: Any, model: Any = None) -> tuple[list[Any], Any]:
    """One run in this process, with the log that `orch` writes: its events and its result."""
    from orchestrator_cli.models.sources import GivenModel, LiveModels
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.runtime import open_run
    from orchestrator_cli.views.filelog import FileLog

    seen = Seen()
    source = GivenModel(model) if model is not None else LiveModels()
    log = FileLog(settings.workspace / "fileLog.md")
    with open_run(settings, [log, seen], source=source) as opened:
        result = run_prompt(prompt, opened)
    if result.shortfall is not None:
        raise result.shortfall
    return seen.events, result


class Seen:
    """The view that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any, _state: Any) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing is held open."""


def use_test_parts() -> None:
    """Make the endpoint of the tests importable, and what it plays."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "orchestrator_cli")]


def together(spans: list[tuple[float, float]]) -> float:
    """Seconds that at least one of the spans covers."""
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(spans):
        total += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return total
