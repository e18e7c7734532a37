"""Kills `orch up` and Prefect's server while schedules run, and counts what happened at each due time.

    python -m benchmarks.schedule_kills [--minutes 10] [--every 10] [--up 5] [--server 2]

Three schedules of one process that writes its key into a file: each makes up for what it missed in another
way. Kills are SIGKILL, at random moments; `orch up` is started again after a random time. Of each due time of
a schedule there has to be one flow run, and of each flow run that was not skipped one run of `orch` and one
line in the file.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.server import import_prefect

ORCH = (sys.executable, "-P", "-m", "orchestrator_cli")
MISSED = ("skip", "once", "all")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=15)
    parser.add_argument("--up", type=int, default=5)
    parser.add_argument("--server", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        return trial(Path(folder), options)


def trial(folder: Path, options: argparse.Namespace) -> int:
    home, workspace, ran = folder / "home", folder / "work", folder / "ran"
    home.mkdir()
    workspace.mkdir()
    program = ["sh", "-c", f'echo "$ORCH_IDEMPOTENCY_KEY" >> {ran}']
    (home / "orch.toml").write_text(f'[processes.tick]\nwhen = "ticks"\ncommand = {json.dumps(program)}\n')
    env = {**os.environ, "ORCH_HOME": str(home)}

    def orch(*args: str) -> str:
        done = subprocess.run(
            [*ORCH, *args], env=env, cwd=workspace, check=True, capture_output=True, text=True
        )
        return done.stdout

    for missed in MISSED:
        orch("schedule", "add", missed, "--process=tick", f"--every={options.every}s", f"--missed={missed}")
    log = (folder / "up.log").open("w")
    up = start(env, workspace, log)
    length = 60 * options.minutes
    begun, ups, servers = time.time(), 0, 0
    moments = sorted(
        [(random.uniform(30, length - 60), "up") for _ in range(options.up)]
        + [(random.uniform(30, length - 60), "server") for _ in range(options.server)]
    )
    for moment, what in moments:
        time.sleep(max(0.0, begun + moment - time.time()))
        if what == "up":
            up.kill()
            up.wait()
            time.sleep(random.uniform(0, 2.5 * options.every))
            up, ups = start(env, workspace, log), ups + 1
        else:
            server = json.loads((home / "prefect" / "server.json").read_text())["pid"]
            os.kill(server, signal.SIGKILL)
            servers += 1
    time.sleep(max(0.0, begun + length - time.time()))
    for missed in MISSED:
        orch("schedule", "pause", missed)
    end = time.time()
    wait_until_idle(home)
    up.send_signal(signal.SIGINT)
    up.wait()
    faults = count(home, ran, begun, end, options.every)
    print((folder / "up.log").read_text()[-3000:])
    print(f"orch up killed {ups} times, the server {servers} times; {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    server = json.loads((home / "prefect" / "server.json").read_text())["pid"]
    os.kill(server, signal.SIGTERM)
    return 1 if faults else 0


def start(env: dict[str, str], workspace: Path, log: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*ORCH, "up"], env=env, cwd=workspace, stdout=log, stderr=log)


def flow_runs(home: Path) -> list[dict[str, Any]]:
    connection = PrefectConnection(None, home, 60, Cancellation())
    connection.open()
    import_prefect()
    rows: list[dict[str, Any]] = []
    with connection.client() as client:
        while True:
            body = {"limit": 200, "offset": len(rows), "sort": "EXPECTED_START_TIME_ASC"}
            found = client.request("POST", "/flow_runs/filter", json=body).json()
            rows += found
            if len(found) < 200:
                break
        names = client.request("POST", "/deployments/filter", json={}).json()
    by_id = {row["id"]: row["name"] for row in names}
    return [row | {"schedule": by_id.get(row["deployment_id"], "")} for row in rows]


def wait_until_idle(home: Path) -> None:
    until = time.time() + 300
    while time.time() < until:
        rows = flow_runs(home)
        if not [row for row in rows if row["state_type"] in ("PENDING", "RUNNING")]:
            return
        time.sleep(3)


def count(home: Path, ran: Path, begun: float, end: float, every: int) -> list[str]:
    """Print the counts, and return what is wrong."""
    faults: list[str] = []
    keys = Counter(ran.read_text().split())
    twice = [key for key, times in keys.items() if times > 1]
    faults += [f"{key} was written more than once" for key in twice]
    rows = [row for row in flow_runs(home) if row["auto_scheduled"]]
    completed = 0
    for missed in MISSED:
        own = [row for row in rows if row["schedule"] == missed]
        from_iso = [time_of(row) for row in own]
        due = [row for row in own if begun <= time_of(row) <= end and row["state_type"] != "SCHEDULED"]
        states = Counter(f"{row['state_type']} {row['state_name']}" for row in due)
        completed += states["COMPLETED Completed"]
        if len(set(from_iso)) != len(from_iso):
            faults.append(f"{missed}: a time has two flow runs")
        times = sorted(time_of(row) for row in due)
        gaps = [b - a for a, b in pairwise(times) if b - a > every + 0.5]
        faults += [f"{missed}: no flow run for {gap:.0f} s" for gap in gaps]
        wrong = {state for state in states if state not in ("COMPLETED Completed", "CANCELLED Skipped")}
        faults += [f"{missed}: {states[state]} ended as {state}" for state in wrong]
        if missed == "all" and states["CANCELLED Skipped"]:
            faults.append("all: a time was skipped")
        print(f"{missed:5} {len(due)} due: {dict(states)}")
    runs = list((home / "runs").glob("*/journal.jsonl"))
    print(f"{len(runs)} runs of orch, {sum(keys.values())} lines written, {completed} flow runs completed")
    if not len(runs) == len(keys) == completed:
        faults.append("these numbers differ")
    return faults


def time_of(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["expected_start_time"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
