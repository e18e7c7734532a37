"""What tests of whole runs share: a Prefect server, a warm process, and users of `orch`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from engine import Engine, end, start_server
from forkserver import Warm
from residents import Residents
from scripted_model import MODELS

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine import server as prefect_server

NewUser = Callable[[Path, Endpoint], Orch]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("prefect")
    try:
        url = start_server(home)
        warm = Warm(url, home)  # imports while the server starts
        residents = Residents(home, tmp_path_factory.mktemp("residents"))
        prefect_server.await_server(url, home, Cancellation())
        server = prefect_server.running_server(home)
        assert server is not None
        yield Engine(home, url, server.password, warm, residents)
        warm.close()
        residents.close()
    finally:
        if found := prefect_server.running_server(home):
            end(found.pid)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The ways of a test, if its marker names any."""
    if "new_user" not in metafunc.fixturenames:
        return
    wanted = WAYS
    if metafunc.config.getoption("resident"):  # but for those that start residents of their own
        wanted = {"alone": WAYS["alone"]}
    for marker, ways in wanted.items():
        if metafunc.definition.get_closest_marker(marker):
            metafunc.parametrize("new_user", ways, ids=ways, indirect=True, scope="session")


WAYS = {"both_ways": ["alone", "resident"], "alone": ["alone"], "resident": ["resident"]}


@pytest.fixture(scope="session")
def new_user(request: pytest.FixtureRequest, pytestconfig: pytest.Config, engine: Engine) -> NewUser:
    """Makes a user with an empty home and workspace below a folder, whose models are at an endpoint.

    To start by itself takes a command seconds. So each call is a fork of a warm process, and what a test
    starts for itself has a resident, unless its marker says that neither has, or both.
    """
    way = getattr(request, "param", "resident" if pytestconfig.getoption("resident") else "")
    calls = engine.residents if way == "resident" else engine.warm
    starts = engine.warm if way == "alone" else engine.residents

    def make(folder: Path, endpoint: Endpoint) -> Orch:
        home, workspace = folder / "home", folder / "workspace"
        home.mkdir()
        workspace.mkdir()
        env = {
            "ORCH_PREFECT_HOME": str(engine.home),
            "OPENAI_BASE_URL": endpoint.url,
            "OPENAI_API_KEY": "test-key",
            **MODELS,
        }
        return Orch(home, workspace, calls, starts, env)

    return make


@pytest.fixture
def orch(tmp_path: Path, endpoint: Endpoint, new_user: NewUser) -> Orch:
    return new_user(tmp_path, endpoint)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, new_user: NewUser) -> Iterator[tuple[Orch, Endpoint]]:
    """A user and an endpoint for a module whose tests all look at one run."""
    with Endpoint() as endpoint:
        yield new_user(tmp_path_factory.mktemp("stage"), endpoint), endpoint
