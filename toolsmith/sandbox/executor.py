"""smolagents' `PythonExecutor` over a sandbox: what a CodeAgent writes runs inside, and only there.

Tools. An agent gets exactly the mapping it is sent. `final_answer` is the worker's own. All other tools,
managed agents too, are called on the host: code inside calls a stub that sends name and arguments and
receives the value or the error. A tool with a true attribute `own_sandbox` was written by a model, and the
host calls it in another sandbox: its calls have a limit of their own, and its errors keep their type.

Not covered: smolagents' list of authorized imports only shapes the prompt here (the sandbox is the boundary),
and a replacement for `final_answer` is not called. Only the last *expression* of a step is its output;
smolagents' own interpreter also shows the value of a final assignment.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from smolagents.local_python_executor import CodeOutput, PythonExecutor

from toolsmith.sandbox.probe import choose_backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.session import NOTHING, Bindings, SandboxSession
from toolsmith.sandbox.spec import Backend, Limits


class SandboxExecutor(PythonExecutor):  # type: ignore[misc]  # smolagents ships no types
    """Runs steps in a sandbox whose Python state lasts from one to the next.

    The worker starts with the first request (about 50 ms). A crash, a hang or a memory bomb rolls the Python
    state back to before the step. Use it from one thread at a time; `interrupt` and `cleanup` from any.
    """

    def __init__(
        self,
        workspace: Path,
        *,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        backend: Backend | None = None,
        writable: bool = True,
        secrets: Mapping[str, str] = NOTHING,
        network: Sequence[str] = (),
        dialer: Dialer = Dialer(),  # noqa: B008  (frozen)
        packages: Path | None = None,
        readable: Path | None = None,
        imports: bool = True,
    ) -> None:
        """Raises SandboxUnavailable if no backend works here, FileNotFoundError without a workspace.

        `secrets` are the variables that exist inside besides the fixed ones; their values are masked in all
        texts that leave (see redaction.py). Raises ValueError for a name or a value that cannot be used. The
        caller makes sure that the user approved who is given which secret.

        `network` are the domains that HTTP clients inside can reach, through a proxy on the host (see
        proxy.py). Raises ValueError for a malformed domain, SandboxUnavailable if `backend` cannot grant
        connections. `dialer` resolves and checks addresses. The caller makes sure that the user approved.

        `packages` is a folder of installed packages that code inside can read and import; `readable` is
        another folder that it can read. `imports` says whether it can import modules of the workspace.
        """
        self.state: dict[str, Any] = {}
        """Holds `_print_outputs`, which smolagents reads after a failed step."""
        self.backend = backend or choose_backend()
        self._session = SandboxSession(
            Path(workspace),
            limits=limits,
            backend=self.backend,
            writable=writable,
            secrets=secrets,
            network=network,
            dialer=dialer,
            packages=packages,
            readable=readable,
            imports=imports,
        )
        self._steps = 0

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Sets names in the namespace; values that are not of plain types arrive as their text."""
        if variables:
            self._session.bindings.variables.update(variables)
            self._session.bind()

    def send_tools(self, tools: Mapping[str, Any]) -> None:
        """Makes `tools` the tools of this sandbox, in place of those sent before. Raises SandboxError."""
        host = {name: tool for name, tool in tools.items() if name != "final_answer"}
        built = frozenset(name for name, tool in host.items() if getattr(tool, "own_sandbox", False))
        self._session.bindings = Bindings(self._session.bindings.variables, host, built)
        self._session.bind()

    def __call__(self, code_action: str) -> CodeOutput:
        """Runs one step. Raises SandboxError with the text for the agent."""
        self._steps += 1
        try:
            result = self._session.request({"t": "run", "number": self._steps, "code": code_action})
        finally:
            self.state["_print_outputs"] = self._session.last_output
        return CodeOutput(output=result.value, logs=result.output, is_final_answer=result.final)

    def call_tool(
        self, source: str, function: str, arguments: dict[str, Any], args: Sequence[Any] = ()
    ) -> Any:
        """Calls `function(*args, **arguments)` of the module `source`, which is loaded once, inside.

        Returns the plain value. Raises SandboxError, which begins with `Type: message` of the tool's failure.
        """
        try:
            return self._session.call(source, function, arguments, args).value
        finally:
            self.state["_print_outputs"] = self._session.last_output

    def interrupt(self) -> None:
        """Ends the worker at once, from any thread; a running or later step raises SandboxClosed."""
        self._session.interrupt()

    def cleanup(self) -> None:
        """Ends the worker and releases what it held. Idempotent."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()
