"""The embedding model to measure with: the small one, or what BENCH_EMBED names as `memory.dense` would.

Questions are made into vectors before anything is timed.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from memory.dense import BATCH, Dense
from memory.embedder import DenseVector

MISSING = "not available: the extra `meaning` is not installed, and BENCH_EMBED names no embedding model"

Near = Mapping[str, DenseVector]
"""The vector of each question."""


def dense_model() -> Dense | None:
    from orchestrator_cli.recall.run_memory import open_dense
    from orchestrator_cli.settings import load_settings

    with tempfile.TemporaryDirectory() as nowhere:
        name = os.environ.get("BENCH_EMBED")
        return open_dense(load_settings({"memory": {"dense": name}}, Path(nowhere)), _fail)


def vectors_of(dense: Dense, questions: Iterable[str]) -> Near:
    texts = list(dict.fromkeys(questions))
    parts = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    return {text: made for part in parts for text, made in zip(part, dense.vectors(part), strict=True)}


def _fail(why: str) -> NoReturn:
    """A measurement that goes on without the model would be one of something else."""
    raise SystemExit(why)
