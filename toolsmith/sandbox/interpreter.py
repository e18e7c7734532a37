"""Runs code in a namespace that lasts, and reports the outcome; inside the worker.

The result of a step is the value of its last line if that line is an expression. A failed step keeps the
variables it had set, as a notebook does. A failure is reported by type, message and the frames of the code
itself: no path, no marker line, nothing that differs between Python versions.

Not covered: chained causes and the members of exception groups; `await` at top level.
"""

import ast
import contextlib
import linecache
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from toolsmith.sandbox.wire import Json, decode, encode, encode_result

HostCall = Callable[[str, Json, Json], Any]
"""Takes the name, the arguments by place and those by name, both encoded."""
Outcome = dict[str, Json]

MAX_MESSAGE = 4_000
SHOWN_FRAMES = 6
_INLINED_SINCE_312 = ("<listcomp>", "<dictcomp>", "<setcomp>")


class FinalAnswer(BaseException):
    """Carries the answer out of the step; a BaseException, so that `except Exception` does not catch it."""


class StepTimeout(BaseException):
    """The step has used up its time."""


class Interpreter:
    """The namespace of the steps, and the modules whose functions were called."""

    def __init__(self, call_host: HostCall) -> None:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main  # so that pickle, dataclasses and type hints find what steps define
        self._names: dict[str, Any] = main.__dict__
        self._call_host = call_host
        self._answers: list[Json] = []
        """What the step gave to `final_answer`; the first one counts."""
        self._lines: dict[str, list[str]] = {}
        self._modules: dict[str, types.ModuleType] = {}
        self._bound: dict[str, Any] = {}
        # Model-written tools import `tool` and `Tool` from smolagents, which is heavy and not needed inside.
        for name in ("smolagents", "smolagents.tools"):
            stand_in = types.ModuleType(name)
            stand_in.__dict__.update(tool=lambda function: function, Tool=ToolStandIn)
            sys.modules[name] = stand_in

    def perform(self, request: dict[str, Any]) -> Outcome:
        """Does what `request` asks, within `request["wall_s"]` seconds; never raises."""
        self._answers = []
        own_files = "<step " if request["t"] == "run" else "<tool "
        try:
            try:
                with _alarm(request["wall_s"]):
                    value = encode(getattr(self, "_" + request["t"])(request))
            except BaseException:
                if not self._answers:
                    raise
            if not self._answers:
                return {"value": value, "final": False}
            # Also if the code caught `FinalAnswer`, as `except:` does, whatever it did then.
            own_files = "<step "
            return {"value": self._answers[0], "final": True}
        except StepTimeout:
            limit = f"the step took longer than {request['wall_s']:g} s; variables set so far are kept"
            return {"error": {"type": "TimeoutError", "message": limit, "frames": []}}
        except BaseException as exc:
            return {"error": self._describe(exc, own_files)}
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()

    # --- the requests -------------------------------------------------------------------------------------

    def _run(self, request: dict[str, Any]) -> Any:
        name = f"<step {request['number']}>"
        code: str = request["code"]
        self._remember(name, code)
        tree = ast.parse(code, name)
        if _RENAMED in self._names or _assigns(tree, "final_answer"):
            tree = _VariableRenamed().visit(tree)
        self._names["final_answer"] = self._final_answer
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec", dont_inherit=True), self._names)
        if not isinstance(last, ast.Expr):
            return None
        return eval(compile(ast.Expression(last.value), name, "eval", dont_inherit=True), self._names)

    def _final_answer(self, *values: Any, **named: Any) -> NoReturn:
        """Ends the step with one value, given by position or by any name."""
        given = [*values, *named.values()]
        if len(given) != 1:
            raise TypeError(f"final_answer() takes exactly one argument ({len(given)} given)")
        self._answers.append(encode_result(given[0]))
        raise FinalAnswer

    def _call_tool(self, request: dict[str, Any]) -> Any:
        function = self._tool(request["function"], request["source"], request["digest"])
        return function(*decode(request["args"]), **decode(request["arguments"]))

    def _bind(self, request: dict[str, Any]) -> None:
        for name, value in self._bound.items():
            if self._names.get(name) is value:
                del self._names[name]
        # A built tool takes plain values only: whatever else it were given would arrive as a text.
        wires = {name: encode_result if built else encode for name, built in request["host"].items()}
        self._bound = {name: _stub(name, self._call_host, wire) for name, wire in wires.items()}
        self._names.update(decode(request["variables"]))
        self._names.update(self._bound)

    def _tool(self, function: str, source: str, digest: str) -> Callable[..., Any]:
        if digest not in self._modules:
            name = f"<tool {function}>"
            module = types.ModuleType(f"tool_{digest}")
            self._remember(name, source)
            sys.modules[module.__name__] = module
            exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
            self._modules[digest] = module
        found = getattr(self._modules[digest], function, None)
        if not callable(found):
            raise AttributeError(f"the tool's source defines no function {function!r}")
        return found() if isinstance(found, type) and issubclass(found, ToolStandIn) else found

    # --- describing failures ------------------------------------------------------------------------------

    def _remember(self, name: str, source: str) -> None:
        lines = source.splitlines(keepends=True)
        self._lines[name] = lines
        linecache.cache[name] = (len(source), None, lines, name)

    def _describe(self, error: BaseException, own_files: str) -> Json:
        frames: list[Any] = [
            [line, name, self._line(file, line)] for file, line, name in _frames(error, own_files)
        ]
        message = _message(error)
        if isinstance(error, SyntaxError) and str(error.filename).startswith(own_files):
            frames.append([error.lineno, "<module>", self._line(str(error.filename), error.lineno or 0)])
            message = error.msg
        if len(frames) > SHOWN_FRAMES:
            frames[SHOWN_FRAMES // 2 : -SHOWN_FRAMES // 2] = [None]
        of_a_tool = own_files == "<tool " and frames
        return {
            "type": _kind(error) if of_a_tool else type(error).__name__,
            "message": message,
            "frames": frames,
        }

    def _line(self, file: str, number: int) -> str:
        lines = self._lines.get(file, [])
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


_RENAMED = "final_answer_value"


def _assigns(tree: ast.Module, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(tree)
    )


class _VariableRenamed(ast.NodeTransformer):
    """Keeps a variable that a step names `final_answer` apart from the function of that name."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        self.generic_visit(node)
        if isinstance(function, ast.Name) and function.id == "final_answer":
            node.func = function
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        name = _RENAMED if node.id == "final_answer" else node.id
        return ast.copy_location(ast.Name(name, node.ctx), node)


def _kind(error: BaseException) -> str:
    """Its type; one that is not built in comes after the built-in type that it derives from.

    A tool declares built-in errors, and json's JSONDecodeError counts as the ValueError it declares.
    """
    built_in = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    names = [built_in.__name__, type(error).__name__]
    return ": ".join(dict.fromkeys(names))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MAX_MESSAGE]
    except Exception as exc:
        return f"(its message failed with {type(exc).__name__})"


def _frames(error: BaseException, own_files: str) -> list[tuple[str, int, str]]:
    """(file, line, function) of the frames in the code itself, outermost first.

    Comprehensions have frames of their own before Python 3.12; this folds them into their caller's.
    """
    frames: list[tuple[str, int, str]] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(own_files):
            name = code.co_name
            if name in _INLINED_SINCE_312 and frames:
                name = frames.pop()[2]
            frames.append((code.co_filename, trace.tb_lineno, name))
        trace = trace.tb_next
    return frames


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> NoReturn:
        raise StepTimeout

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def paused_alarm() -> Iterator[None]:
    """Stops the step's clock while the host works."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.001) if left else 0)


def _stub(name: str, call_host: HostCall, wire: Callable[[Any], Json]) -> Callable[..., Any]:
    def stub(*args: Any, **kwargs: Any) -> Any:
        return call_host(name, wire(list(args)), wire(kwargs))

    stub.__name__ = stub.__qualname__ = name
    stub.__module__ = "__main__"  # where pickle finds it, for processes of the code
    return stub


class ToolStandIn:
    """Replaces `smolagents.Tool` inside: enough to call a class with `forward`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward: Callable[..., Any] = self.forward  # type: ignore[attr-defined]
        return forward(*args, **kwargs)
