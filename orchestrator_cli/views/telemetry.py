"""The view that sends a run to a collector of OpenTelemetry, as spans with the names of `gen_ai.*`.

A run is a span; so is each attempt at a subtask, below it, and each model call, below its attempt. All
processes of a run have the same trace, whose id is made from the run's. Texts of the prompt, of models and of
files are sent only if the user has asked for it, and secrets in them are masked as in the journal.

The provider of spans belongs to this view: what Prefect or another library traces is not sent. A collector
that does not answer is said once, and delays nothing but the end of the process, for `END_S` at most.

Not covered: attempts that another process has begun and that ended with it; metrics and logs.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from importlib import metadata
from importlib.util import find_spec
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from orchestrator_cli import afterwards, events
from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.environment import for_programs
from orchestrator_cli.event_settings import OtelSettings
from orchestrator_cli.events import Event
from orchestrator_cli.http_clients import requests_session
from orchestrator_cli.plan import whole_name
from orchestrator_cli.state import RunState
from orchestrator_cli.views.otlp_address import OtlpAddress, otlp_address

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

END_S = 2.0
EXPORT_S = 2.0
"""How long the collector may take for one request."""
REPLY_BYTES = 1 << 20
CONTENT_CHARS = 10_000
PACKAGE = "opentelemetry.exporter.otlp.proto.http"
PROVIDERS = {
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}
"""What the conventions call a provider that LiteLLM calls otherwise."""
OTHER = "_OTHER"
"""The conventions' `error.type` where there is no better name."""


def is_installed() -> bool:
    """Whether the extra `otel` is there."""
    try:
        return find_spec(PACKAGE) is not None
    except ImportError:
        return False


class Telemetry:
    """Makes spans of events."""

    def __init__(self, settings: OtelSettings, say: Callable[[list[str]], None]) -> None:
        """`say` shows lines about what did not work. Without an address, nothing is done."""
        self._content = settings.content
        self._say = say
        self._provider: TracerProvider | None = None
        self._spans: dict[str, Span] = {}
        """Those of the attempts at work; that of the run is under an empty name."""
        self._run = ""
        self._has_said = False
        address = otlp_address(settings.endpoint, for_programs())
        if address is None:
            return
        if not is_installed():
            if settings.endpoint:
                say(["otel: no spans are sent: install orchestrator-cli with its extra otel"])
            return
        try:
            self._provider = _provider(address, lambda: self._run, self._failed)
        except Exception as exc:  # whatever the environment sets for the library
            say([f"otel: no spans are sent: {type(exc).__name__}"])

    def __call__(self, event: Event, state: RunState) -> None:
        if self._provider is None:
            return
        match event.data:
            case events.RunStarted() | events.RunResumed():
                self._begin(event, state)
            case events.SubtaskStarted() as begun:
                self._attempt(event, state, begun)
            case events.Spent() as spent:
                self._call(event, spent)
            case events.ToolCalled() as called:
                self._tool(event, called)
            case events.SubtaskFinished(subtask=name):
                self._end(name, event)
            case events.SubtaskFailed(subtask=name, reason=reason):
                self._end(name, event, failed=OTHER, why=reason)
            case events.RunFinished() as end:
                self._finish(event, end)

    def close(self) -> None:
        if self._provider is None:
            return
        for span in reversed(self._spans.values()):
            span.end()  # of a run without an end
        self._spans.clear()
        ended = Flag()
        afterwards.register(ended)
        run_beside(self._flush, ended)

    # --- spans

    def _begin(self, event: Event, state: RunState) -> None:
        self._run = event.run
        span = self._start("", "invoke_workflow orch", event.time)
        span.set_attributes(
            {
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": "orch",
                "orch.run.id": event.run,
                "orch.resumed": isinstance(event.data, events.RunResumed),
            }
        )
        if state.started and state.started.session:
            span.set_attribute("gen_ai.conversation.id", state.started.session)
        self._text(span, "gen_ai.input.messages", _message("user", state.prompt))

    def _attempt(self, event: Event, state: RunState, begun: events.SubtaskStarted) -> None:
        found = state.plan.index.by_id if state.plan else {}
        subtask = found.get(whole_name(begun.subtask))
        role = subtask.role if subtask else None
        self._end(begun.subtask, event)
        span = self._start(begun.subtask, f"invoke_agent {role}" if role else "subtask", event.time)
        span.set_attributes({"orch.subtask.id": begun.subtask, "orch.subtask.attempt": begun.attempt})
        if role:
            span.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": role})
        self._text(span, "orch.subtask.title", begun.title)

    def _call(self, event: Event, spent: events.Spent) -> None:
        operation = "embeddings" if spent.role == "memory" else "chat"
        start = event.time - timedelta(seconds=spent.seconds)
        span = self._start(None, f"{operation} {spent.model}", start, below=spent.subtask or "")
        span.set_attributes(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": spent.model,
                "gen_ai.usage.input_tokens": spent.prompt_tokens,
                "gen_ai.usage.output_tokens": spent.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": spent.cached_tokens,
                "orch.role": spent.role,
            }
        )
        prefix, slash, _ = spent.model.partition("/")
        if slash:
            span.set_attribute("gen_ai.provider.name", PROVIDERS.get(prefix, prefix.removesuffix("_chat")))
        if spent.cost is not None:
            span.set_attribute("orch.cost.usd", spent.cost)
        if spent.stopped:
            span.set_attribute("orch.stopped", True)
        elif spent.fault:
            self._fail(span, OTHER, spent.fault)
        span.end(_nanoseconds(event.time))

    def _tool(self, event: Event, called: events.ToolCalled) -> None:
        span = self._spans.get(called.subtask)
        if span is not None:
            named: dict[str, str | bool] = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": called.tool,
                "orch.tool.ok": called.ok,
            }
            span.add_event("execute_tool", named, _nanoseconds(event.time))

    def _finish(self, event: Event, end: events.RunFinished) -> None:
        for name in [name for name in self._spans if name]:
            self._end(name, event)
        span = self._spans.get("")
        if span is None:
            return
        usage = end.usage
        span.set_attributes(
            {
                "orch.outcome": end.outcome,
                "orch.calls": usage.calls,
                "orch.calls.unpriced": usage.unpriced,
                "orch.cost.usd": usage.cost,
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
            }
        )
        self._text(span, "gen_ai.output.messages", _message("assistant", end.answer))
        failed = str(end.exit_code) if end.exit_code else ""
        self._end("", event, failed=failed, why=end.error or "")

    def _start(self, key: str | None, name: str, at: datetime, below: str = "") -> "Span":
        """A span below that of a subtask, or else of the run; kept under its key until it is ended."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        assert self._provider is not None
        above = self._spans.get(below) or self._spans.get("")
        made = self._provider.get_tracer("orchestrator_cli").start_span(
            name,
            context=set_span_in_context(above) if above is not None else None,
            kind=SpanKind.CLIENT if key is None else SpanKind.INTERNAL,
            start_time=_nanoseconds(at),
        )
        if key is not None:
            self._spans[key] = made
        return made

    def _end(self, name: str, event: Event, *, failed: str = "", why: str = "") -> None:
        span = self._spans.pop(name, None)
        if span is None:
            return
        if failed:
            self._fail(span, failed, why)
        span.end(_nanoseconds(event.time))

    def _fail(self, span: "Span", kind: str, why: str) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("error.type", kind)
        span.set_status(StatusCode.ERROR, why[:CONTENT_CHARS] if self._content else None)

    def _text(self, span: "Span", name: str, text: str) -> None:
        if self._content and text:
            span.set_attribute(name, text)

    # --- sending

    def _failed(self) -> None:
        self._say_once("the collector did not take the spans")

    def _say_once(self, what: str) -> None:
        """Of a run, what went wrong first says enough."""
        if not self._has_said:
            self._has_said = True
            self._say([f"otel: {what}"])

    def _flush(self, ended: Flag) -> None:
        assert self._provider is not None
        sent = Flag()
        run_beside(_shut_down, self._provider, sent)
        if not sent.wait(END_S):
            self._say_once(f"not all spans were sent within {END_S:g} s")
        ended.set()


def _shut_down(provider: "TracerProvider", sent: Flag) -> None:
    provider.shutdown()
    sent.set()


def _provider(address: OtlpAddress, run: Callable[[], str], failed: Callable[[], None]) -> "TracerProvider":
    """What makes and sends spans. It takes nothing more from the environment than the address says."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class OfTheRun(RandomIdGenerator):
        """The trace of a run is the same in each of its processes."""

        def generate_trace_id(self) -> int:
            return int.from_bytes(hashlib.sha256(run().encode()).digest()[:16], "big")

    class Exporter(OTLPSpanExporter):
        """Says once that spans were not taken."""

        has_failed = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is not SpanExportResult.SUCCESS and not self.has_failed:
                self.has_failed = True
                failed()
            return result

    resource = Resource(
        {"service.name": address.service, "service.version": metadata.version("orchestrator-cli")}
    )
    made = TracerProvider(
        sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False, id_generator=OfTheRun()
    )
    session = requests_session(EXPORT_S, REPLY_BYTES)
    exporter = Exporter(
        address.url, address.certificate, headers=address.headers, timeout=EXPORT_S, session=session
    )
    made.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=8192, schedule_delay_millis=1000, max_export_batch_size=512
        )
    )
    return made


def _message(role: str, text: str) -> str:
    """A message as the conventions write one; empty if there is no text."""
    parts: list[dict[str, Any]] = [{"type": "text", "content": text[:CONTENT_CHARS]}]
    return json.dumps([{"role": role, "parts": parts}], ensure_ascii=False) if text else ""


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1000
