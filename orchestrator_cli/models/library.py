"""LiteLLM: imported here and nowhere else, set up, and with it what its first calls would import."""

import contextlib
import importlib
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from orchestrator_cli.durable.text import listed
from orchestrator_cli.environment import take_from_libraries
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.models.wire import guard_clients

IMPORT_LOCK = threading.RLock()
"""Held while a thread imports a large library in the background.

If the imports of two threads need each other's modules, Python avoids the deadlock by handing out
half-imported ones. Hold it for one library at a time: a first model call waits for it.
"""

_IMPORTED: set[str] = set()
"""What was used once, and so imports nothing more."""


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """Guards an operation that imports modules the first time."""
    if what in _IMPORTED:
        yield
        return
    with IMPORT_LOCK:
        yield
        _IMPORTED.add(what)


def prepare(*, tools: bool = True) -> None:
    """Import LiteLLM, which takes seconds, so that a background thread can do it early."""
    litellm()
    if tools:
        prepare_for_tools()


def prepare_for_tools() -> None:
    """Import what LiteLLM would import during its first call with tools."""
    if "tools" in _IMPORTED:
        return
    with importing("tools"):
        importlib.import_module("litellm.responses.mcp.chat_completions_handler")


def prepare_for_call() -> None:
    """Import what LiteLLM, and OpenAI's client below it, would import during their first call."""
    if "call" in _IMPORTED:
        return
    with importing("call"):
        litellm().completion(
            model="openai/none", messages=[{"role": "user", "content": "x"}], mock_response="x"
        )
        for name in _OF_A_CALL:
            with contextlib.suppress(ImportError):  # other versions lack some of them
                importlib.import_module(name)


_OF_A_CALL = (
    *("openai.resources", "openai.lib.streaming.chat", "httpcore", "httpx2", "h2.connection", "jiter"),
    "litellm.types.litellm_core_utils.streaming_chunk_builder_utils",
    *("litellm._service_logger", "litellm.integrations.prometheus_services"),
)


def litellm() -> Any:
    """The library; imported by the first call, which takes seconds."""
    if "litellm" in _IMPORTED:
        return sys.modules["litellm"]
    with importing("litellm"):
        return _import_litellm()


_GIVEN = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise its price list comes over the network, at import
    "LITELLM_MODE": "PRODUCTION",  # otherwise it reads .env files in the folders above its installation
}
_OF_A_PROVIDER = re.compile(r"^LITELLM_PROXY_|_(API_KEY|API_BASE)$")


def set_variables() -> None:
    """Set what LiteLLM reads at import. What is set for other programs plays no part, but keys and addresses.

    To be called while one thread runs: others could copy the environment just then.
    """
    take_from_libraries(
        lambda name: name.startswith("LITELLM_") and name not in _GIVEN and not _OF_A_PROVIDER.search(name)
    )
    os.environ.update(_GIVEN)


def _import_litellm() -> Any:
    set_variables()  # does nothing if it was called before
    try:
        made: Any = importlib.import_module("litellm")
    except ValueError as exc:  # it makes numbers of some variables
        names = [name for name, value in os.environ.items() if value and repr(value) in str(exc)]
        raise ConfigError(
            f"LiteLLM does not take the environment: {exc}.", f"Unset {listed(names) or 'what it names'}."
        ) from exc
    # Pydantic says it of LiteLLM's own types when it builds them, which can be at any call.
    warnings.filterwarnings("ignore", message="Item '.*' on TypedDict class", category=UserWarning)
    made.suppress_debug_info = True
    made.telemetry = False
    # Nothing reads its log, for which it would give each piece of a stream to another thread.
    made.disable_streaming_logging = True
    # Its embedding call reads 0 retries as unset, and then retries this often.
    made.DEFAULT_MAX_RETRIES = 0
    made.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "litellm", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    of_openai = importlib.import_module("litellm.llms.openai.common_utils")
    guard_clients(
        ((handlers.HTTPHandler, "create_client"), (of_openai.BaseOpenAILLM, "_get_sync_http_client"))
    )
    return made


def rehearse() -> None:
    """Make a whole call that is answered here, for processes that are forked from this one.

    Starts no thread and opens no connection.
    """
    import httpx
    from openai import OpenAI

    pool: Any = importlib.import_module("litellm.litellm_core_utils.thread_pool_executor").executor
    pool.submit = lambda *_args, **_named: None  # it would start a thread, which no fork has
    piece = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "none"}
    deltas: tuple[tuple[dict[str, str], str | None], ...] = (
        ({"role": "assistant", "content": "x"}, None),
        ({}, "stop"),
    )
    rows = [
        json.dumps({**piece, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
        for delta, end in deltas
    ]
    text = "".join(f"data: {row}\n\n" for row in (*rows, "[DONE]"))
    events = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=events, text=text))
    form = {"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}}
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_retries": 0}
    try:
        with OpenAI(
            api_key="none", base_url="http://127.0.0.1:9", http_client=httpx.Client(transport=transport)
        ) as client:
            for tools in (None, [{"type": "function", "function": form}]):
                messages = [{"role": "user", "content": "x"}]
                list(litellm().completion("openai/none", messages, client=client, tools=tools, **options))
    finally:
        del pool.submit
