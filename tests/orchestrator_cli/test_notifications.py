"""Notifications of real runs: by a program, over HTTP on loopback, with the bell; in one message if many."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, plan, process

from orchestrator_cli.notify_settings import NotifySettings
from orchestrator_cli.views.notify_spool import Notification, Sender

KEEP = "import sys; open({path!r}, 'a').write(sys.stdin.read() + chr(10))"
ASKS = {"id": "ask", "title": "Ask", "kind": "human", "instruction": "Which \x1b[31mcolour?"}


def sent_by_command(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def command(path: Path) -> list[str]:
    return [sys.executable, "-c", KEEP.format(path=str(path))]


def set_up(orch: Orch, more: str = "", **notify: Any) -> Path:
    """Set `[notify]`, by default with a command that keeps what it gets in the returned file."""
    kept = orch.home.parent / "kept"
    rows = {"command": command(kept), **notify}
    lines = [f"{name} = {json.dumps(value)}" for name, value in rows.items()]
    (orch.home / "orch.toml").write_text("\n".join(["[notify]", *lines, more]))
    return kept


def in_spool(orch: Orch) -> list[str]:
    return [path.name for path in (orch.home / "notify").glob("*.json")]


class Receiver:
    """What Apprise's `json://` sends to."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_program_gets_what_a_finished_run_came_to(orch: Orch, endpoint: Endpoint) -> None:
    kept = set_up(orch)
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "Say \x1b[31mhello.\nAnd more.")
    assert done.code == 0, done.err
    (sent,) = sent_by_command(kept)
    assert (sent["event"], sent["outcome"], sent["prompt"]) == ("done", "completed", "Say hello.")
    assert sent["run"] == orch.journal().parent.name
    assert sent["workspace"] == str(orch.workspace)
    assert sent["cost"] is None
    assert sent["messages"][0]["event"] == "done"
    assert "\x1b" not in json.dumps(sent)
    assert in_spool(orch) == []


def test_a_failed_run_and_one_over_its_limit(orch: Orch, endpoint: Endpoint) -> None:
    kept = set_up(orch, digest_s=0)
    assert orch("ask", "Fail.").code == 4
    endpoint.reply = Cast(planner=[plan(process("one", "nothing"))])
    assert orch("ask", "Spend.", "--max-calls", "1").code in (1, 5)
    first, second = sent_by_command(kept)
    assert (first["event"], second["event"]) == ("failed", "over_budget")
    assert any("orch resume" in line for line in first["how"])


def test_a_run_that_waits_says_how_to_answer(orch: Orch, endpoint: Endpoint) -> None:
    kept = set_up(orch)
    endpoint.reply = Cast(planner=[plan(ASKS)])
    assert orch("ask", "Ask me.").code == 6
    (sent,) = sent_by_command(kept)
    run = orch.journal().parent.name
    assert (sent["event"], sent["outcome"]) == ("waiting", "paused")
    assert "colour?" in sent["detail"]
    assert "\x1b" not in sent["detail"]
    assert any(f"orch approve {run}" in line for line in sent["how"])


def test_a_question_is_told_once_while_other_work_goes_on(orch: Orch, endpoint: Endpoint) -> None:
    kept = orch.home.parent / "kept"
    waits = f"import os, time\nwhile not os.path.exists({str(kept)!r}): time.sleep(0.05)"
    argv = json.dumps([sys.executable, "-c", waits])
    more = f"[processes.wait]\nwhen = 'x'\neffects = false\ncommand = {argv}"
    set_up(orch, more)
    endpoint.reply = Cast(planner=[plan(ASKS, process("other", "wait"))])
    assert orch("ask", "Ask me.").code == 6
    assert [(row["event"], row["outcome"]) for row in sent_by_command(kept)] == [("waiting", "")]


@pytest.mark.parametrize(
    ("on", "after_s", "rings"), [(["done"], 0, True), (["done"], 60, False), (["failed"], 0, False)]
)
def test_at_a_terminal_only_a_long_run_rings(
    orch: Orch, endpoint: Endpoint, on: list[str], after_s: float, rings: bool
) -> None:
    kept = set_up(orch, on=on, after_s=after_s, bell=True)
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch.at_terminal("ask", "Say hello.", typed="")
    assert done.code == 0
    assert ("\a" in done.out) is rings
    assert len(sent_by_command(kept)) == rings


def test_a_service_of_apprise_gets_it(orch: Orch, endpoint: Endpoint, receiver: Receiver) -> None:
    set_up(orch, command=[], urls=[f"json://ann:hunter22@{receiver.address}/path"])
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "--json", "Say hello.")
    assert done.code == 0
    (body,) = receiver.bodies
    assert body["title"] == "orch: done · Say hello."
    assert str(orch.workspace) in body["message"]
    everything = [done.out, done.err, orch.log, orch.journal().read_text()]
    assert not any("hunter22" in text for text in everything)


def test_what_fails_is_said_and_changes_no_run(orch: Orch, endpoint: Endpoint) -> None:
    refusing = Receiver(500)
    urls = [f"json://ann:hunter22@{refusing.address}/", "hunter22", "json://ann:hunter22@127.0.0.1:1/"]
    kept = set_up(orch, command=["/no/such/hunter"], urls=urls)
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "Say hello.")
    refusing.close()
    assert (done.code, done.out) == (0, "hello\n")
    assert [
        word for word in ("notify: command", "urls 1 (json)", "urls 2", "urls 3") if word not in done.err
    ] == []
    assert "hunter22" not in done.err + orch.log + orch.journal().read_text()
    assert in_spool(orch) == []
    assert not kept.exists()


def test_a_program_that_hangs_holds_the_end_up_briefly_and_the_next_run_sends(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[answered("hello")] * 3)
    set_up(orch, on=[])
    usual = orch("ask", "Say hello.").seconds
    set_up(orch, command=[sys.executable, "-c", "import time; time.sleep(60)"])
    done = orch("ask", "Say hello.")
    assert (done.code, done.seconds < usual + 6) == (0, True)
    assert len(in_spool(orch)) == 1
    kept = set_up(orch)
    assert orch("ask", "Again.").code == 0
    rows = [row for sent in sent_by_command(kept) for row in sent["messages"]]
    assert sorted(row["prompt"] for row in rows) == ["Again.", "Say hello."]
    assert in_spool(orch) == []


def test_a_message_that_is_never_sent_is_given_up(orch: Orch, tmp_path: Path) -> None:
    folder = tmp_path / "notify"
    folder.mkdir()
    (folder / "00000000000000000001-aaaaaaaa.3.json").write_text(message("old").model_dump_json())
    (folder / "00000000000000000002-aaaaaaaa.0.json").write_text("{}")
    kept = tmp_path / "kept"
    sender = Sender(tmp_path, NotifySettings(command=tuple(command(kept))), lambda _: None)
    sender.flush()
    sender.close()
    assert list(folder.glob("*.json")) == []
    assert not kept.exists()


def message(prompt: str, event: Any = "done") -> Notification:
    return Notification(
        event=event, run="r-1", workspace="/w", prompt=prompt, outcome="completed", cost=0.1, seconds=1.0
    )


def test_many_that_come_at_once_are_few_messages(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    notify, said = NotifySettings(command=tuple(command(kept))), list[list[str]]()
    senders = [Sender(tmp_path, notify, said.append) for _ in range(10)]

    def end(number: int) -> None:
        senders[number].put(message(str(number), "failed" if number == 9 else "done"))
        senders[number].close()

    threads = [threading.Thread(target=end, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(100):
        if not list((tmp_path / "notify").glob("*.json")):
            break
        time.sleep(0.1)
    sent = sent_by_command(kept)
    assert sorted(row["prompt"] for one in sent for row in one["messages"]) == sorted(map(str, range(10)))
    assert len(sent) <= 3
    last = next(one for one in sent if "9" in [row["prompt"] for row in one["messages"]])
    assert last["event"] == "failed"
    assert said == []


def test_the_ways_can_be_tried(orch: Orch, receiver: Receiver) -> None:
    assert orch("notify", "test").code == 3
    kept = set_up(orch, urls=[f"json://{receiver.address}/"])
    done = orch("notify", "test", "--json")
    rows: Any = done.envelope
    assert [row["ok"] for row in rows] == [True, True]
    assert len(sent_by_command(kept)) == len(receiver.bodies) == 1
    set_up(orch, urls=["nonsense"])
    failed = orch("notify", "test")
    assert failed.code == 1
    assert "urls 1" in failed.out


def test_a_way_that_does_not_exist_here_is_not_called_sent(orch: Orch, tmp_path: Path) -> None:
    (orch.home / "orch.toml").write_text("[notify]\nbell = true\ndesktop = true\n")
    done = orch("notify", "test", "--json", PATH=str(tmp_path))
    rows: Any = done.envelope
    assert (done.code, {row["name"]: row["ok"] for row in rows}) == (1, {"bell": False, "desktop": False})
    assert "sent" not in orch("notify", "test", PATH=str(tmp_path)).out


def test_a_workspace_cannot_have_its_programs_started(orch: Orch, endpoint: Endpoint) -> None:
    kept = orch.home.parent / "kept"
    (orch.workspace / "orch.toml").write_text(f"[notify]\ncommand = {json.dumps(command(kept))}")
    done = orch("ask", "-y", "Say hello.")
    assert (done.code, "notify" in done.error, kept.exists()) == (3, True, False)
    assert endpoint.arrived == 0
