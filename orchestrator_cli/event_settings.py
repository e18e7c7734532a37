"""What else a run's events are given to: programs of the user's, and a collector of OpenTelemetry."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Hook(BaseModel):
    """A program that is started at events of a run: a table `[[hooks]]` of the user's own orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: tuple[str, ...] = Field(min_length=1)
    """The kinds of events, such as `RunFinished`."""
    command: tuple[str, ...] = Field(min_length=1)
    """A program and its arguments, which gets the event as JSON on standard input; no shell reads them."""
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    """Seconds that it may take for one event."""

    @field_validator("on")
    @classmethod
    def _are_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from orchestrator_cli.events import KINDS  # only who has hooks waits for the import

        if unknown := [name for name in value if name not in KINDS]:
            raise ValueError(f"{unknown[0]} is no kind of event; the kinds are {', '.join(sorted(KINDS))}")
        return value


class OtelSettings(BaseModel):
    """Where spans of runs are sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str = ""
    """The address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`.

    By default that of `OTEL_EXPORTER_OTLP_ENDPOINT` in your environment.
    """
    content: bool = False
    """Whether spans have the prompt, the answer, titles and reasons, besides names and numbers."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("it begins with neither http:// nor https://")
        return value
