"""Images and sound: which models see, a recording written down, a text spoken. One try each.

What providers bill by the second is estimated from bytes before the call, and after it if they do not say how
long a recording was. LiteLLM's errors become ours here.

Not covered: recordings and texts that are longer than the provider takes.
"""

import time
from typing import Any

from orchestrator_cli.errors import RequestRefused
from orchestrator_cli.models.budget import Quote
from orchestrator_cli.models.client_errors import translate
from orchestrator_cli.models.library import importing, litellm, prepare_for_call
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.models.pricing import usage_of_media

TRANSCRIPTION, SPEECH = "transcription", "speech"
"""The roles of these calls in events."""
BYTES_A_SECOND = 1_000
"""Of a recording, at the least that is in use."""
TOKENS_A_SECOND = 30
"""Of sound, and of what is said."""
SPEECH_CHARS = 4_000
"""The longest text that is spoken; OpenAI takes 4,096 characters."""
MAX_TRANSCRIPT = 1_000_000


def sees(name: str) -> bool | None:
    """Whether a model takes images; None if LiteLLM's list does not have it."""
    with importing("quote"):
        prices = litellm().model_cost
        known = prices.get(name) or prices.get(name.partition("/")[2])
        return bool(known.get("supports_vision")) if known is not None else None


def transcribe(request: ModelRequest, data: bytes, file: str, media: str, timeout: float) -> Completion:
    """What is said in a recording. Raises `ProviderError`."""
    name, started = request.model or "", time.monotonic()
    try:
        prepare_for_call()
        answer = litellm().transcription(
            model=name, file=(file, data, media), timeout=timeout, max_retries=0, num_retries=0
        )
        text = getattr(answer, "text", None)
    except Exception as exc:  # translated here, at the one boundary
        raise translate(exc, name) from exc
    if not isinstance(text, str) or not text.strip():
        raise RequestRefused(
            f"{name} found no words in {file}.", "Leave it out, or set another transcription_model."
        )
    used = usage_of_media(name, answer, TRANSCRIPTION, quote_recording(name, data).prompt_cost)
    return Completion(text=text[:MAX_TRANSCRIPT], model=name, usage=used, seconds=time.monotonic() - started)


def speak(
    request: ModelRequest, text: str, voice: str, form: str, timeout: float
) -> tuple[bytes, Completion]:
    """A text as sound of a form such as `mp3`. Raises `ProviderError`."""
    name, started = request.model or "", time.monotonic()
    try:
        prepare_for_call()
        answer = litellm().speech(
            model=name, input=text, voice=voice, response_format=form, timeout=timeout, max_retries=0
        )
        data = bytes(answer.content)
    except Exception as exc:  # translated here, at the one boundary
        raise translate(exc, name) from exc
    if not data:
        raise RequestRefused(f"{name} gave no sound.", "Set another speech_model.")
    used = usage_of_media(name, text, SPEECH, quote_speech(name, text).prompt_cost)
    return data, Completion(text="", model=name, usage=used, seconds=time.monotonic() - started)


def quote_recording(name: str, data: bytes) -> Quote:
    """The worst case of a recording to be written down."""
    seconds = len(data) / BYTES_A_SECOND
    price = _prices(name)
    cost = seconds * price("input_cost_per_second")
    cost = cost or TOKENS_A_SECOND * seconds * (
        price("input_cost_per_audio_token") + price("output_cost_per_token")
    )
    return Quote(prompt_tokens=0, reply_tokens=0, prompt_cost=cost)


def quote_speech(name: str, text: str) -> Quote:
    """The worst case of a text to be spoken."""
    price = _prices(name)
    seconds = len(text) / 5  # slow speech
    cost = len(text) * price("input_cost_per_character") + seconds * price("output_cost_per_second")
    cost = cost or TOKENS_A_SECOND * seconds * price("output_cost_per_audio_token")
    return Quote(prompt_tokens=0, reply_tokens=0, prompt_cost=cost)


def _prices(name: str) -> Any:
    prices = litellm().model_cost
    known = prices.get(name) or prices.get(name.partition("/")[2]) or {}
    return lambda key: known.get(key) or 0.0
