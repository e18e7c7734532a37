"""smolagents' `PythonExecutor` over a sandbox: what a CodeAgent writes runs inside, and only there.

Tools. An agent gets exactly the mapping it is sent. A tool with the attribute `sandbox_source` was written
by a model: its source runs inside. `final_answer` is the worker's own. All other tools, managed agents too,
run on the host: code inside calls a stub that sends name and arguments and receives the value or the error.

Not covered: smolagents' list of authorized imports only shapes the prompt here (the sandbox is the boundary),
and a replacement for `final_answer` is not called. Only the last *expression* of a step is its output;
smolagents' own interpreter also shows the value of a final assignment.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from smolagents.local_python_executor import CodeOutput, PythonExecutor

from toolsmith.sandbox.probe import choose_backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.session import NOTHING, Bindings, InsideCall, SandboxSession, StepResult, digest
from toolsmith.sandbox.spec import Backend, Limits, SandboxError
from toolsmith.sandbox.wire import WireError, encode


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
    ) -> None:
        """Raises SandboxUnavailable if no backend works here, FileNotFoundError without a workspace.

        `secrets` are the variables that exist inside besides the fixed ones; their values are masked in all
        texts that leave (see redaction.py). Raises ValueError for a name or a value that cannot be used. The
        caller makes sure that the user approved who is given which secret.

        `network` are the domains that HTTP clients inside can reach, through a proxy on the host (see
        proxy.py). Raises ValueError for a malformed domain, SandboxUnavailable if `backend` cannot grant
        connections. `dialer` resolves and checks addresses. The caller makes sure that the user approved.

        `packages` is a folder of installed packages that code inside can read and import; `readable` is
        another folder that it can read.
        """
        self.state: dict[str, Any] = {}
        """Holds `_print_outputs`, which smolagents reads after a failed step."""
        self.on_calls: Callable[[tuple[InsideCall, ...]], None] | None = None
        """Called after each step that called model-written tools, with these calls."""
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
        )
        self._steps = 0

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Sets names in the namespace; values that are not of plain types arrive as their text."""
        if variables:
            self._session.bindings.variables.update(variables)
            self._session.bind()

    def send_tools(self, tools: Mapping[str, Any]) -> None:
        """Makes `tools` the tools of this sandbox, in place of those sent before. Raises SandboxError."""
        inside = {
            name: tool.sandbox_source
            for name, tool in tools.items()
            if isinstance(getattr(tool, "sandbox_source", None), str)
        }
        host = {name: tool for name, tool in tools.items() if name not in inside and name != "final_answer"}
        inside.pop("final_answer", None)
        self._session.bindings = Bindings(self._session.bindings.variables, host, inside)
        self._session.bind()

    def __call__(self, code_action: str) -> CodeOutput:
        """Runs one step. Raises SandboxError with the text for the agent."""
        self._steps += 1
        result = self._request({"t": "run", "number": self._steps, "code": code_action})
        return CodeOutput(output=result.value, logs=result.output, is_final_answer=result.final)

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        """Calls `function(**arguments)` of the module `source`, which is loaded once, inside.

        Returns the plain value. Raises SandboxError, which begins with `Type: message` of the tool's failure.
        """
        request = {"t": "call_tool", "function": function, "source": source, "digest": digest(source)}
        try:
            request["arguments"] = encode(arguments)
        except WireError as exc:
            raise SandboxError(f"cannot pass the arguments of {function}: {exc}") from exc
        return self._request(request, message_first=True).value

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

    def _request(self, request: dict[str, Any], *, message_first: bool = False) -> StepResult:
        try:
            return self._session.request(request, message_first=message_first)
        finally:
            self.state["_print_outputs"] = self._session.last_output
            if self.on_calls is not None and self._session.last_calls:
                self.on_calls(self._session.last_calls)
