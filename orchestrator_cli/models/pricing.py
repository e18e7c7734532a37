"""What a call costs and how many tokens it has: LiteLLM's lists and counts, and what a provider reports."""

import json
import math
from collections.abc import Iterable
from typing import Any

from orchestrator_cli.models.budget import Quote
from orchestrator_cli.models.library import importing, litellm
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.models.parameters import caches_prompts
from orchestrator_cli.models.wire import MAX_TOKENS
from orchestrator_cli.values import Usage

TOKENS_MARGIN = 1.35
"""Other tokenizers produce up to a third more tokens than the one that counts here."""
FRAME_TOKENS = 64
"""Tokens that a provider adds around the messages."""
SAMPLE_TOKENS = 1_000


def quote(request: ModelRequest) -> Quote:
    """The worst case of a request that names its model. Takes milliseconds, and no network."""
    with importing("quote"):
        return _quote(request.model or "", request)


def _quote(name: str, request: ModelRequest) -> Quote:
    prompt = _prompt_tokens(request)
    try:
        known = litellm().get_model_info(name)
    except Exception:  # LiteLLM raises a bare Exception for a model that it does not know
        return Quote(prompt_tokens=prompt, reply_tokens=request.max_tokens)
    longest = known.get("max_output_tokens") or known.get("max_tokens")
    longest = min(filter(None, (longest, request.max_tokens)), default=None)
    if not _has_price(name):
        return Quote(prompt_tokens=prompt, reply_tokens=longest)
    sent, received = litellm().cost_per_token(
        model=name, prompt_tokens=prompt, completion_tokens=SAMPLE_TOKENS
    )
    if caches_prompts(name):
        sent = max(sent, prompt * (known.get("cache_creation_input_token_cost") or 0.0))
    return Quote(
        prompt_tokens=prompt,
        reply_tokens=longest,
        prompt_cost=sent,
        # A reasoning token can cost more than a token of the reply.
        token_cost=max(received / SAMPLE_TOKENS, known.get("output_cost_per_reasoning_token") or 0.0),
    )


def longest_of(name: str) -> int | None:
    """The longest reply that a model gives, in tokens; None if LiteLLM's list does not say."""
    prices = litellm().model_cost
    known = prices.get(name) or prices.get(name.partition("/")[2]) or {}
    longest = known.get("max_output_tokens") or known.get("max_tokens")
    return longest if isinstance(longest, int) and longest > 0 else None


def quote_embedding(request: ModelRequest) -> Quote:
    """The worst case of an embedding request, which has no reply tokens."""
    name = request.model or ""
    tokens = _prompt_tokens(request)
    if not _has_price(name):
        return Quote(prompt_tokens=tokens, reply_tokens=0)
    cost, _ = litellm().cost_per_token(
        model=name, prompt_tokens=tokens, completion_tokens=0, call_type="embedding"
    )
    return Quote(prompt_tokens=tokens, reply_tokens=0, prompt_cost=cost)


def context_tokens(name: str) -> int | None:
    """The longest prompt that a model takes; None if LiteLLM does not know."""
    with importing("quote"):
        try:
            longest = litellm().get_model_info(name).get("max_input_tokens")
        except Exception:  # as above
            return None
    return longest if isinstance(longest, int) and longest > 0 else None


def unpriced(names: Iterable[str]) -> list[str]:
    """The models without a price in LiteLLM's list."""
    return sorted({name for name in names if not _has_price(name)})


def _has_price(name: str) -> bool:
    """Whether LiteLLM knows a price; models served on this machine have one, and it is 0."""
    try:
        known = litellm().get_model_info(name)
    except Exception:  # as above
        return False
    entry = litellm().model_cost.get(known["key"])
    # LiteLLM treats an entry without costs as free.
    return entry is None or any("cost" in key for key in entry)


def _prompt_tokens(request: ModelRequest) -> int:
    counted = _count(request, messages=list(request.messages), tools=list(request.tools) or None)
    return math.ceil(TOKENS_MARGIN * counted) + FRAME_TOKENS


def _count(request: ModelRequest, **content: Any) -> int:
    try:
        return int(litellm().token_counter(model=request.model or "", **content))
    except Exception:  # an odd message must not prevent the call; two bytes a token overestimate
        return len(json.dumps(content).encode()) // 2


# --- usage


def usage_of(request: ModelRequest, answer: Any, said: str | None) -> Usage:
    """What a call used; counted here if the provider says nothing that can be true.

    `said`: the reply; None for an embedding.
    """
    name, used = request.model or "", getattr(answer, "usage", None)
    sent, received = (_amount(getattr(used, key, 0)) for key in ("prompt_tokens", "completion_tokens"))
    if not sent and not received:
        sent = _count(request, messages=list(request.messages))
        received = _count(request, text=said) if said else 0
        answer.usage = litellm().Usage(
            prompt_tokens=sent, completion_tokens=received, total_tokens=sent + received
        )
    details = getattr(used, "prompt_tokens_details", None)
    said_cached = getattr(used, "cache_read_input_tokens", 0), getattr(details, "cached_tokens", 0)
    cost = _cost(name, answer, "embedding" if said is None else "completion")
    return Usage(
        calls=1,
        prompt_tokens=sent,
        completion_tokens=received,
        cached_tokens=min(max(map(_amount, said_cached)), sent),
        cost=cost or 0.0,
        unpriced=1 if cost is None else 0,
    )


def _amount(value: Any) -> int:
    """A number of tokens that a provider names; 0 if it cannot be true."""
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKENS else 0


def _cost(name: str, answer: Any, call: str = "completion") -> float | None:
    if not _has_price(name):
        return None
    try:
        cost = float(litellm().completion_cost(completion_response=answer, model=name, call_type=call))
    except Exception:  # LiteLLM raises a bare Exception if it does not know
        return None
    return cost if math.isfinite(cost) and cost >= 0 else None


def usage_of_media(name: str, answer: Any, call: str, most: float) -> Usage:
    """What a call for sound used.

    Args:
        answer: of a transcription the provider's; of speech the text that was spoken.
        most: what it may have cost, in US dollars. It counts if the provider does not say how long it was.
    """
    cost, is_speech = None, call == "speech"
    if _has_price(name):
        given = {"prompt": answer} if is_speech else {"completion_response": answer}
        try:
            cost = float(litellm().completion_cost(model=name, call_type=call, **given))
        except Exception:  # as above
            cost = 0.0
        cost = cost if math.isfinite(cost) and cost > 0 else most
    used = None if is_speech else getattr(answer, "usage", None)
    sent, received = (_amount(getattr(used, key, 0)) for key in ("input_tokens", "output_tokens"))
    return Usage(
        calls=1,
        prompt_tokens=sent,
        completion_tokens=received,
        cost=cost or 0.0,
        unpriced=1 if cost is None else 0,
    )
