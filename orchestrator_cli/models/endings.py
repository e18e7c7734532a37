"""How replies end: providers' words for it as ours, how long a reply may be, and what to say of one that is
not whole. Pure.
"""

from collections.abc import Mapping

from orchestrator_cli.durable.text import truncate
from orchestrator_cli.models.model import Completion, FinishReason

LONGEST_REPLIES: Mapping[str, int] = {
    "planner": 32_768,
    "reviser": 32_768,
    "agent": 32_768,
    "toolsmith": 32_768,
    "judge": 8_192,
    "answer": 16_384,
}
"""The longest reply of each role, in tokens and with thoughts. It is several times what the work needs, so
that only a model that does not stop reaches it."""
_LONGEST_REPLY = 16_384
CHARS_PER_TOKEN = 8
"""More than the tokens of any text have on average."""
REFUSAL_CHARS = 300

_FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
    "repetition": "repetition",
    "time": "time",
}
"""By the words of providers, of LiteLLM and of `replies`, in lower case."""


def finish_reason(word: str | None) -> FinishReason:
    return _FINISHES.get((word or "").lower(), "")


def longest_reply(role: str, of_model: int | None) -> int:
    """The longest reply to ask for, in tokens. `of_model`: the longest that the model gives, if known."""
    longest = LONGEST_REPLIES.get(role, _LONGEST_REPLY)
    return longest if of_model is None else min(longest, of_model)


def reply_fault(reply: Completion) -> str:
    """Why a reply is not whole, in words for its model and for the user; empty if it is."""
    has_content = bool(reply.text.strip() or reply.tool_calls)
    match reply.finish_reason:
        case "length":
            what = "the reply" if has_content else "the reply, all of it thoughts,"
            shorter = "give a shorter one" if has_content else "think less and reply sooner"
            return f"{what} was cut after {reply.usage.completion_tokens:,} tokens: {shorter}"
        case "time":
            return f"the reply was still arriving after {reply.seconds:.0f} s and was cut: give a shorter one"
        case "repetition":
            return "the reply repeated the same text over and over and was cut: say everything once"
        case "refusal":
            return f"the model refused: {truncate(reply.refusal or reply.text or 'no reason', REFUSAL_CHARS)}"
    if has_content:
        return ""
    return "the reply is empty" + (": it has thoughts and nothing else" if reply.reasoning else "")
