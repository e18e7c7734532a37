"""The state of a run: one frozen value, and the one function that an event changes it by."""

from orchestrator_cli.state.apply import apply, fold, usage_of
from orchestrator_cli.state.run_state import Accepted, Activity, PendingCall, RunState, Version, Work

__all__ = ["Accepted", "Activity", "PendingCall", "RunState", "Version", "Work", "apply", "fold", "usage_of"]
