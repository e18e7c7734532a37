"""What a user is notified of, and how: `[notify]` in their own orch.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

NotifyEvent = Literal["done", "failed", "waiting", "over_budget"]


class NotifySettings(BaseModel):
    """Without `bell`, `desktop`, `command` and `urls`, nothing is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: tuple[NotifyEvent, ...] = ("done", "failed", "waiting", "over_budget")
    """What you are notified of."""
    after_s: float = Field(default=30.0, ge=0, le=86_400)
    """At a terminal, seconds of a run, or that its question is open, before you are notified."""
    bell: bool = False
    """Whether the terminal rings."""
    desktop: bool = False
    """Whether `notify-send`, if it is installed, shows a message on the desktop."""
    command: tuple[str, ...] = ()
    """A program and its arguments, which gets a JSON object on standard input; no shell reads them."""
    urls: tuple[SecretStr, ...] = ()
    """Addresses of services as Apprise writes them, such as `ntfys://ntfy.example.org/topic`."""
    digest_s: float = Field(default=5.0, ge=0, le=3_600)
    """Messages within so many seconds of the last one become one message."""

    @property
    def has_way(self) -> bool:
        """Whether there is a way to notify anyone."""
        return bool(self.bell or self.desktop or self.command or self.urls)

    @property
    def is_on(self) -> bool:
        """Whether there is also something to notify of."""
        return bool(self.on) and self.has_way
