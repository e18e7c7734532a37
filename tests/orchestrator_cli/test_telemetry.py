"""Spans of real runs, at a collector on loopback: their names, their order, and what they do not say."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from command import Orch
from endpoint import Endpoint, fault
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from scripted_model import Cast, answered, caller, code, coder, plan

from orchestrator_cli.views.otlp_address import otlp_address

CONVENTIONS = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
PROMPT = "Count the xylophones."
CODE = code("final_answer('forty-two')")


class Sent(NamedTuple):
    """A span as it arrived."""

    name: str
    id: bytes
    above: bytes
    trace: bytes
    fields: dict[str, Any]
    failed: bool
    seconds: float
    events: list[str]
    status: str


class Collector:
    """Takes spans as OTLP over HTTP."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector.headers.append(dict(self.headers.items()))
                    collector.bodies.append(body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[Sent]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += [_sent(span) for span in scope.spans]
        return found

    def one(self, name: str) -> Sent:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _sent(span: Any) -> Sent:
    fields = {row.key: getattr(row.value, row.value.WhichOneof("value")) for row in span.attributes}
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    return Sent(
        span.name, span.span_id, span.parent_span_id, span.trace_id, fields, span.status.code == 2, seconds,
        [event.name for event in span.events], span.status.message,
    )  # fmt: skip


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def env(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **more}


@pytest.mark.both_ways
def test_a_run_is_a_trace_of_attempts_and_calls(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("count", retries=1))], agents={"Do count": [code("1 / 0"), CODE]}
    )
    done = orch("ask", PROMPT, **env(collector, OTEL_EXPORTER_OTLP_HEADERS="x-team=a%20b"))
    assert done.code == 0, done.err
    run = collector.one("invoke_workflow orch")
    attempt = collector.one("invoke_agent coder")
    assert {span.trace for span in collector.spans} == {run.trace}
    assert (run.above, attempt.above) == (b"", run.id)
    assert collector.one("chat openai/planner").above == run.id
    asked = [span for span in collector.spans if span.name == "chat openai/agent"]
    assert [span.above for span in asked] == [attempt.id] * 2
    spent = orch.events("Spent")
    sums = [sum(one[name] for one in spent) for name in ("prompt_tokens", "completion_tokens")]
    fields = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    chats = [span for span in collector.spans if span.name.startswith("chat ")]
    assert [run.fields[name] for name in fields] == sums
    assert [sum(span.fields[name] for span in chats) for name in fields] == sums
    assert chats[0].fields["gen_ai.provider.name"] == "openai"
    assert run.fields["orch.run.id"] == orch.journal().parent.name
    assert (run.fields["orch.outcome"], run.failed) == ("completed", False)
    assert run.seconds >= attempt.seconds > 0
    assert collector.headers[0]["x-team"] == "a b"


def test_names_are_those_of_the_conventions(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    (orch.workspace / "a.txt").write_text("a")
    endpoint.reply = Cast(planner=[plan(caller("look", tools=["read_file"]))], agents={"Do look": [CODE]})
    orch("ask", PROMPT, **env(collector))
    names = {name for span in collector.spans for name in span.fields}
    assert {name for name in names if name.startswith("gen_ai.")} <= CONVENTIONS
    assert all(name.startswith(("gen_ai.", "orch.", "error.type")) for name in names)


@pytest.mark.parametrize("content", [False, True])
def test_texts_are_sent_only_if_asked_for(
    orch: Orch, endpoint: Endpoint, collector: Collector, content: bool
) -> None:
    (orch.home / "orch.toml").write_text(f"[otel]\ncontent = {str(content).lower()}\n")
    endpoint.reply = Cast(planner=[plan(coder("count"))], agents={"Do count": [CODE]})
    done = orch("ask", PROMPT, **env(collector))
    assert done.code == 0, done.err
    sent = b"".join(collector.bodies)
    found = [text in sent for text in (b"xylophones", b"forty-two")]
    assert found == [content, content]
    assert str(orch.workspace).encode() not in sent


def test_errors_have_a_type_and_no_text(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.reply = lambda _request, _n: fault(400, "the kazoo is broken")
    assert orch("ask", PROMPT, **env(collector)).code == 4
    run, call = collector.one("invoke_workflow orch"), collector.spans[0]
    assert (run.failed, run.fields["error.type"], run.status) == (True, "4", "")
    assert (call.failed, call.fields["error.type"]) == (True, "_OTHER")
    assert b"kazoo" not in b"".join(collector.bodies)


def test_a_resumed_run_has_the_same_trace(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.reply = Cast(planner=[plan(coder("count"))], agents={"Do count": [CODE]})
    orch("ask", PROMPT, "--max-calls", "1", **env(collector))
    endpoint.reply = Cast(agents={"Do count": [CODE]})
    assert orch("resume", "last", "--max-calls", "20", **env(collector)).code == 0
    runs = [span for span in collector.spans if span.name == "invoke_workflow orch"]
    assert [span.fields["orch.resumed"] for span in runs] == [False, True]
    assert len({span.trace for span in runs}) == 1


def test_a_collector_that_fails_is_a_note(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    for status in (400, 503):
        collector.status = status
        endpoint.reply = Cast(planner=[answered("hello")])
        began = time.monotonic()
        done = orch("ask", PROMPT, **env(collector))
        assert (done.code, done.out) == (0, "hello\n")
        assert time.monotonic() - began < 40  # an exporter by itself tries for 64 s
        assert [line[:5] for line in done.err.splitlines() if "otel" in line] == ["otel:"]


def test_nothing_is_sent_without_an_address(orch: Orch, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.reply = Cast(planner=[answered("a"), answered("b")])
    orch("ask", PROMPT)
    orch("ask", PROMPT, **env(collector, OTEL_SDK_DISABLED="true"))
    assert collector.bodies == []


@pytest.mark.parametrize(
    ("setting", "variables", "url"),
    [
        ("http://a:1", {"ENDPOINT": "http://b:2"}, "http://a:1/v1/traces"),
        ("http://a:1/v1/traces", {}, "http://a:1/v1/traces"),
        ("http://a:1/x?key=k", {}, "http://a:1/x/v1/traces?key=k"),
        ("", {"ENDPOINT": "http://b:2/x/"}, "http://b:2/x/v1/traces"),
        ("", {"ENDPOINT": "http://b:2", "TRACES_ENDPOINT": "http://c:3/own"}, "http://c:3/own"),
        ("", {"ENDPOINT": "http://b:2", "PROTOCOL": "grpc"}, None),
        ("", {"ENDPOINT": "b:2"}, None),
        ("", {"ENDPOINT": " "}, None),
        ("", {}, None),
    ],
)
def test_addresses_are_those_of_the_specification(
    setting: str, variables: dict[str, str], url: str | None
) -> None:
    found = otlp_address(setting, {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()})
    assert (found.url if found else None) == url
