"""Deployments on a work pool of a team's server, which Prefect's own workers run."""

import time
from collections.abc import Mapping
from typing import Any

from orchestrator_cli.durable.text import truncate
from orchestrator_cli.engine.outbox import fault_of, is_refused, short_line
from orchestrator_cli.errors import RunFailed, UsageError

FLOW = "orch deployed"
TAG = "orch-deployed"
"""Not that of schedules which `orch up` starts."""
MOST, NAMES_CHARS = 200, 1000
TRIES, PAUSE_S = 5, 1.0
"""How often the server is asked, and the seconds between."""


class WorkPool:
    """The deployments of one owner on a work pool. Every method raises `RunFailed` if the server is gone."""

    def __init__(self, client: Any, pool: str, owner: str) -> None:
        """Raises `UsageError` if there is no such pool.

        Args:
            client: Prefect's.
            pool: its name.
            owner: whose schedules they are, because others may have schedules of the same names.
        """
        self._client = client
        self._pool = pool
        self._flow = f"{FLOW} {owner}"
        names = [row["name"] for row in self._post("/work_pools/filter", {"limit": MOST})]
        if pool not in names:
            there = truncate(", ".join(short_line(str(name)) for name in names), NAMES_CHARS) or "none"
            raise UsageError(
                f"The server has no work pool {pool[:100]!r}.",
                f"There are: {there}. Make one with: prefect work-pool create",
            )

    def put(
        self,
        name: str,
        about: str,
        timing: Mapping[str, Any] | None,
        *,
        entrypoint: str,
        parameters: Mapping[str, Any],
        collision: str,
    ) -> None:
        """Make a deployment, or replace the one of this name. Raises `UsageError` if it is refused.

        Args:
            timing: its times, in the form of Prefect's API; None if no time starts it.
            entrypoint: the path of the flow's module and its name, with dots.
            collision: what Prefect does at a time at which the run before is at work.
        """
        flow = self._post("/flows/", {"name": self._flow})["id"]
        row = {
            "flow_id": flow,
            "name": name,
            "description": about,
            "tags": [TAG],
            "schedules": [{"schedule": timing, "active": True}] if timing else [],
            "paused": False,
            "work_pool_name": self._pool,
            "entrypoint": entrypoint,
            "parameters": dict(parameters),
            "enforce_parameter_schema": False,
            "concurrency_limit": 1,
            "concurrency_options": {"collision_strategy": collision},
        }
        try:
            self._post("/deployments/", row)
        except Exception as exc:
            if is_refused(exc):
                raise UsageError(f"The server refuses the deployment {name}.", fault_of(exc)) from exc
            raise

    def remove(self, name: str) -> bool:
        """Remove a deployment; False if there is none of this name on this pool."""
        own = {
            "flows": {"name": {"any_": [self._flow]}},
            "deployments": {"name": {"any_": [name]}, "tags": {"all_": [TAG]}},
            "work_pools": {"name": {"any_": [self._pool]}},
        }
        rows = self._post("/deployments/filter", own)
        for row in rows:
            self._client.request("DELETE", f"/deployments/{row['id']}")
        return bool(rows)

    def _post(self, path: str, body: Any) -> Any:
        """A server whose database is busy is asked again; all of these can be repeated without harm."""
        for left in reversed(range(TRIES)):
            try:
                return self._client.request("POST", path, json=body).json()
            except Exception as exc:
                if is_refused(exc):
                    raise
                if not left:
                    raise RunFailed(
                        f"Prefect's server does not answer: {fault_of(exc)}.", "Try again later."
                    ) from exc
                time.sleep(PAUSE_S)
        raise AssertionError
