"""What every test may use: a model endpoint of its own, and hypothesis without a stop-watch."""

import os
import signal
from collections.abc import Iterator

import pytest
from endpoint import Endpoint
from hypothesis import HealthCheck, settings

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Data folders that others may write to are refused.
os.umask(0o022)

# How long an example takes says more about the machine than about the code.
settings.register_profile("orch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("orch")

LONGEST = ("test_killed.py", "test_workspace_kill.py")


# Commands that tests start in ways of their own have no resident either; see `--resident`.
os.environ["ORCH_RESIDENT"] = "never"

# Loading the small embedding model takes a second of each process; tests that are about it set it.
os.environ["ORCH_MEMORY__DENSE"] = "off"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--resident",
        action="store_true",
        help="run each orch through client, resident and worker; only tests that start orch",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first: at the end, one process would work on it while the others wait."""
    if config.getoption("resident"):
        items[:] = [item for item in items if "new_user" in getattr(item, "fixturenames", ())]
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as serving:
        yield serving
