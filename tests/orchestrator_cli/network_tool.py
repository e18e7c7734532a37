"""A tool that needs a domain and a key, a server that wants that key, and a run in which they meet.

Private addresses are never granted, so the command itself cannot reach a server of a test. This file
run as a program is the command with one part replaced: a dialer that leads every name to the loopback.
"""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEY = "s3cr3t-of-the-weather"

CODE = '''import os
import urllib.request

from smolagents import tool


@tool
def weather(city: str) -> str:
    """Say what the weather is in a city.

    Args:
        city: The city's name.

    Returns:
        What the server says.
    """
    if not city:
        raise ValueError("the city is empty")
    request = urllib.request.Request(f"http://DOMAIN/{city}")
    request.add_header("X-Key", os.environ["WEATHER_KEY"])
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode()
'''


def specified(domain: str) -> str:
    """The toolsmith's model's specification."""
    spec = {
        "name": "weather",
        "purpose": "Say what the weather is in a city.",
        "inputs": {"city": {"type": "string", "description": "The city's name."}},
        "output_type": "string",
        "output_description": "What the server says.",
        "errors": [{"type": "ValueError", "when": "the city is empty"}],
        "network": [domain],
        "secrets": ["WEATHER_KEY"],
        "examples": [{"title": "a city", "arguments": {"city": "Bern"}, "check": "len(value) > 0"}],
    }
    return f"```json\n{json.dumps(spec)}\n```"


def cased() -> str:
    """Its cases."""
    cases = [
        {"title": "another", "arguments": {"city": "Rome"}, "check": "len(value) > 0"},
        {"title": "a third", "arguments": {"city": "Oslo"}, "check": "'Oslo' in value"},
        {"title": "no city", "arguments": {"city": ""}, "error": "ValueError"},
    ]
    return f"```json\n{json.dumps({'cases': cases})}\n```"


def written(domain: str) -> str:
    """Its module."""
    return f"```python\n{CODE.replace('DOMAIN', domain)}```"


class _Weather(http.server.BaseHTTPRequestHandler):
    """Says the place and the key it was given."""

    def do_GET(self) -> None:
        body = f"{self.path}: sunny for {self.headers['X-Key']}".encode()
        self.server.seen.append((self.headers["Host"], self.headers["X-Key"]))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def serving() -> Iterator[Any]:
    """The server; `seen` holds host and key of each request, `server_port` its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Weather) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main(prompt: str) -> int:
    """`orch ask -q -y PROMPT`, with every name leading to the loopback."""
    from pathlib import Path

    from orchestrator_cli.errors import OrchError
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.runtime import open_run
    from orchestrator_cli.settings import load_settings
    from orchestrator_cli.views.console import Console
    from orchestrator_cli.views.filelog import FileLog
    from toolsmith.sandbox.proxy import Dialer

    dialer = Dialer(resolve=lambda host, port: ["127.0.0.1"], allowed=lambda address: True)
    settings, console = load_settings({"yes": True}, Path.cwd()), Console(verbose=True)
    try:
        with open_run(settings, [FileLog(Path("fileLog.md")), console], dialer=dialer) as run:
            result = run_prompt(prompt, run)
    except OrchError as exc:
        console.error(exc)
        return exc.exit_code
    console.print_answer(result.answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
