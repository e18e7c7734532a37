"""What is said of a Prefect server that does not do what it was asked: one short sentence."""

import httpx
import pytest

from orchestrator_cli.engine.outbox import fault_of

REQUEST = httpx.Request("POST", "http://127.0.0.1:1/api/events")


def refused(status: int, text: str = "") -> httpx.HTTPStatusError:
    reply = httpx.Response(status, text=text, request=REQUEST)
    with pytest.raises(httpx.HTTPStatusError) as raised:
        reply.raise_for_status()
    return raised.value


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refused(503, '{"exception_message": "Service Unavailable"}'), "busy"),
        (refused(429), "busy"),
        (refused(500, "Internal"), "500"),
        (refused(422, "no such\nfield\x1b[2J " + "x" * 900), "422, no such field"),
        (httpx.ReadTimeout("timed out"), "10 s"),
        (TimeoutError(), "10 s"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "refused"),
        (httpx.RemoteProtocolError(""), "RemoteProtocolError"),
    ],
)
def test_a_fault_is_one_short_sentence(fault: Exception, words: str) -> None:
    said = fault_of(fault)
    assert words in said
    assert "mozilla" not in said
    assert said.isprintable()
    assert len(said) < 350
