"""A machine whose usual ports are free: a user listens there as Ollama does, and root runs `orch`.

To be run in a network namespace, with the number of the user and a folder for everything. Prints as JSON how
the commands ended, and which paths were asked for.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Ollama(BaseHTTPRequestHandler):
    heard: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._answer({"models": [{"name": "qwen3"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer({})

    def _answer(self, row: object) -> None:
        self.heard.append(self.path)
        data = json.dumps(row).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def machine(user: int, folder: str) -> None:
    home, work = f"{folder}/home", f"{folder}/work"
    for place in (home, work):
        os.mkdir(place, 0o700)  # noqa: PTH102
    with socket.socket() as wire:
        fcntl.ioctl(wire, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
    os.seteuid(user)
    server = ThreadingHTTPServer(("127.0.0.1", 11434), _Ollama, bind_and_activate=False)
    os.seteuid(0)  # the socket stays that user's
    server.server_bind()
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"PATH": os.environ["PATH"], "HOME": home, "ORCH_HOME": home, "ORCH_RESIDENT": "never"}

    def orch(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator_cli", *args],
            env=env,
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    said = {
        "ask": orch("ask", "What is my number?"),
        "set": orch("ask", "What is my number?", "-m", "ollama_chat/qwen3"),
        "init": orch("init", "-y"),
    }
    sys.stdout.write(json.dumps([said, _Ollama.heard]))


if __name__ == "__main__":
    machine(int(sys.argv[1]), sys.argv[2])
