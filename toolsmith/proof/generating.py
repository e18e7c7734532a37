"""Values from strategies, by hypothesis, made fit for a program that is not a test.

The same strategies give the same values in every process: there is no database of examples, and the
constants that hypothesis collects from whatever code of the user's is loaded are not drawn. No file is
written. Where hypothesis is loaded by somebody else, such as pytest, the place of its files is theirs to say.

Not covered: values that a bug needs by name, such as the word "null".
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
Strategy = Any
"""One of hypothesis' strategies, whose types are known only once it is loaded."""
_BACKEND = "toolsmith"
_LOADING = threading.Lock()
_ONE_AT_A_TIME = threading.Lock()  # hypothesis seeds the process's own generator while it works


class Fails(Exception):
    """What a judge raises on a value that it is to be shown smaller ones of."""


def strategies() -> Any:
    """hypothesis' module of that name, loaded with care."""
    _prepare()
    from hypothesis import strategies as module

    return module


def generate(strategy: Strategy, judge: Callable[[_T], None], most: int) -> None:
    """Show `judge` up to `most` values; once it raises Fails, smaller ones that may fail too."""
    _prepare()
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis.errors import HypothesisException

    @settings(
        max_examples=most,
        backend=_BACKEND,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(strategy)
    def show(value: _T) -> None:
        judge(value)

    with _ONE_AT_A_TIME:
        try:
            show()
        except (Fails, HypothesisException):
            return  # the judge knows what failed; strategies that give nothing have shown it nothing


def _prepare() -> None:
    """Load hypothesis whole: its modules import each other, which two threads at once do not survive."""
    with _LOADING:
        if "hypothesis" not in sys.modules:
            from hypothesis.configuration import set_hypothesis_home_dir

            # A folder that cannot be made: hypothesis does without its files then.
            set_hypothesis_home_dir(os.path.join(os.devnull, "hypothesis"))  # noqa: PTH118
        import hypothesis.strategies  # noqa: F401
        from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

        class Provider(HypothesisProvider):
            """Draws no constants that depend on which modules are loaded."""

            def _maybe_draw_constant(self, *_: Any, **__: Any) -> None:
                return None

        AVAILABLE_PROVIDERS.setdefault(_BACKEND, Provider)
