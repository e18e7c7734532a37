"""Where the replies of a run come from: live models, or replies that are handed to it."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import find_model, missing_key
from orchestrator_cli.models.chain import Emit, ModelChain, check_prices, open_models, recorded_models
from orchestrator_cli.models.client import prepare
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.recorded import RecordedModel
from orchestrator_cli.settings import ROLES, Settings
from orchestrator_cli.usage import Usage


class ModelSource(Protocol):
    """Opens the models of a run."""

    @property
    def is_live(self) -> bool:
        """Whether providers are asked: for replies, for vectors, and to plan with the tools of servers."""

    def names(self, settings: Settings) -> dict[str, str]:
        """The model of each role. Raises `ConfigError` if there is none."""

    def missing(self, name: str) -> str:
        """What a model lacks before it can be asked; empty for nothing."""

    def prepare(self) -> None:
        """Do the slow part of the first call, beside other work."""

    def open(
        self,
        settings: Settings,
        names: dict[str, str],
        others: Iterable[str],
        cancellation: Cancellation,
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        """The models, and the meter of their calls. `used` and `run` are as in `MeteredModel`.

        `others` may be asked besides the models of the roles. Raises `ConfigError` if a limit on money
        meets a model without a price.
        """


@dataclass(frozen=True)
class LiveModels:
    """The models of the settings. `recorder` is put around them, to keep what they say."""

    recorder: Callable[[Model], Model] | None = None
    is_live: bool = True

    def names(self, settings: Settings) -> dict[str, str]:
        found: str | None = None
        names = {}
        for role in ROLES:
            name = settings.model_for(role)
            if name is None:
                # Looked for only if a role has none, and once.
                found = found or find_model().model
                name = found
            names[role] = name
        return names

    def missing(self, name: str) -> str:
        return missing_key(name)

    def prepare(self) -> None:
        prepare(tools=False)
        # The planner's request, which waited for LiteLLM, goes out before more is imported.
        time.sleep(0.05)
        prepare()

    def open(
        self,
        settings: Settings,
        names: dict[str, str],
        others: Iterable[str],
        cancellation: Cancellation,
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        check_prices(settings, [*names.values(), *others], cancellation)
        models = open_models(settings, names, cancellation, emit, used=used, run=run)
        return models if self.recorder is None else ModelChain(self.recorder(models.model), models.meter)


@dataclass(frozen=True)
class GivenModel:
    """One model that is handed over, such as a recording: it has no provider, no key and no price."""

    model: Model
    is_live: bool = False

    def names(self, settings: Settings) -> dict[str, str]:  # noqa: ARG002 - the protocol's
        played = self.model.name if isinstance(self.model, RecordedModel) else "recorded"
        return dict.fromkeys(ROLES, played)

    def missing(self, name: str) -> str:  # noqa: ARG002
        return ""

    def prepare(self) -> None:
        """Nothing has to be imported."""

    def open(
        self,
        settings: Settings,
        names: dict[str, str],  # noqa: ARG002
        others: Iterable[str],  # noqa: ARG002
        cancellation: Cancellation,  # noqa: ARG002
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        return recorded_models(self.model, settings, emit, used=used, run=run)
