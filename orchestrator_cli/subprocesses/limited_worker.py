"""The process of `limited`: reads arguments as lines of JSON, and writes the function's results.

Its arguments are the function's module and name, bytes of memory and seconds of a processor. It imports
little, since it is started for single calls.
"""

import importlib
import json
import resource
import sys

MAX_REPLY_BYTES = 8 << 20


def main() -> None:
    module, name, memory, seconds = sys.argv[1:]
    _limit(resource.RLIMIT_AS, int(memory))
    _limit(resource.RLIMIT_CPU, int(seconds))
    _limit(resource.RLIMIT_CORE, 0)
    function = getattr(importlib.import_module(module), name)
    for line in sys.stdin.buffer:
        try:
            reply = json.dumps({"value": function(*json.loads(line))})
            if len(reply) >= MAX_REPLY_BYTES:
                raise ValueError("the result is too large")
        except Exception as exc:
            # Messages of libraries may quote the data, however long that is.
            reply = json.dumps({"error": f"failed: {type(exc).__name__}"})
        sys.stdout.buffer.write(reply.encode() + b"\n")
        sys.stdout.buffer.flush()


def _limit(kind: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
