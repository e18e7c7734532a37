"""Answers that were given on Prefect's page to runs that wait for a person and have no process."""

from collections.abc import Sequence
from contextlib import suppress

from orchestrator_cli.approvals.page_mirror import Request, collect_answers
from orchestrator_cli.engine.connection import plain_request
from orchestrator_cli.errors import OrchError
from orchestrator_cli.runs.find import PastRun, look_at
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState


def take_page_answers(past: PastRun, state: RunState, settings: Settings) -> bool:
    """Put the answers for a run into its inbox; whether there was one. A server that is away has none."""
    with suppress(OSError, ValueError, LookupError, TypeError, OrchError):
        request = plain_request(settings.prefect_api_url, settings.prefect_home or settings.home)
        if state.open and request is not None:
            is_own = settings.prefect_api_url is None
            return collect_answers(request, past.run, state.open, past.folder, is_own=is_own)
    return False


def answered_on_page(request: Request, waiting: Sequence[PastRun], *, is_own: bool) -> list[PastRun]:
    """Of runs that wait, those that have been answered, with the answers in their inboxes.

    Raises what `request` raises.
    """
    if not waiting:
        return []
    # Resume on the page has a flow run leave its pause.
    named = {"name": {"any_": [past.run for past in waiting]}, "state": {"type": {"any_": ["RUNNING"]}}}
    rows = request("POST", "/flow_runs/filter", {"flow_runs": named, "limit": len(waiting)})
    resumed = {row["name"] for row in rows}
    return [
        past
        for past in waiting
        if past.run in resumed
        and collect_answers(request, past.run, look_at(past).state.open, past.folder, is_own=is_own)
    ]
