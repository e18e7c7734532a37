"""The views that carry what happens in a run out of it: notifications, hooks, spans."""

from collections.abc import Callable

from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.hooks import Hooks
from orchestrator_cli.views.notifications import notifier
from orchestrator_cli.views.telemetry import Telemetry


def outside_views(settings: Settings, say: Callable[[list[str]], None]) -> list[EventView]:
    """One of each, as the user's settings have it; `say` shows lines about what did not work."""
    return [notifier(settings, say), Hooks(settings.hooks, say), Telemetry(settings.otel, say)]
