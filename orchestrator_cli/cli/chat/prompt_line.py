"""The prompt at a terminal: its keys, its history, and what it can be completed to."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from orchestrator_cli.views.streams import wrapped, write
from orchestrator_cli.views.text import one_line

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

MENU_LINES = 8
"""Below the prompt, for what it may be completed to."""
TWICE_S = 2.0
"""A second Ctrl-C at an empty prompt within this time leaves."""


class Prompted(Protocol):
    """What the prompt shows and offers."""

    history_path: Path

    def status(self) -> str:
        """One line for the bottom of the screen."""
        ...

    def files(self) -> list[str]:
        """The folder that names after @ are relative to."""
        ...

    def words(self, command: str) -> Sequence[str]:
        """What may follow a slash command."""
        ...

    def left(self) -> str:
        """What was typed during the last run and not used: the prompt begins with it."""
        ...


class TypedLines(Iterator[str]):
    """What is typed at a terminal, until Ctrl-D. Not a generator, since `KeyboardInterrupt` would end one."""

    def __init__(self, prompted: Prompted, meanings: Mapping[str, str], source: TextIO, sink: TextIO) -> None:
        """`meanings`: what each slash command does."""
        greeting = (prompted.status(), "Type what you want done, or /help. Ctrl-D leaves.")
        write(sink, "".join(f"{line}\n" for line in wrapped(greeting, sink)))
        self.pasted: list[str] = []
        """What was pasted. It may come back from the history."""
        self._prompted = prompted
        self._sink = sink
        self._prompts = _prompt_session(prompted, meanings, source, sink, self.pasted)

    def __next__(self) -> str:
        left = self._prompted.left()
        if left:
            self.pasted.append(left)  # what was typed then may have been pasted
        last = -TWICE_S
        while True:
            try:
                return self._prompts.prompt(default=left)
            except EOFError:
                raise StopIteration from None
            except KeyboardInterrupt:
                left = ""
                if self._prompts.default_buffer.text:
                    continue  # Ctrl-C means this line only.
                if time.monotonic() - last < TWICE_S:
                    raise StopIteration from None
                last = time.monotonic()
                write(self._sink, "Ctrl-C again leaves, as Ctrl-D does.\n")


def _prompt_session(
    prompted: Prompted, meanings: Mapping[str, str], source: TextIO, sink: TextIO, pasted: list[str]
) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.input import create_input
    from prompt_toolkit.output import create_output

    return PromptSession(
        "orch> ",
        prompt_continuation="    > ",
        multiline=True,
        history=_history(prompted.history_path, sink),
        bottom_toolbar=lambda: fitting(one_line(prompted.status(), 400), get_app().output.get_size().columns),
        key_bindings=_keys(tuple(meanings), pasted),
        completer=_completer(prompted, meanings),
        complete_while_typing=True,
        reserve_space_for_menu=MENU_LINES,
        input=create_input(source),
        output=create_output(sink),
    )


def fitting(status: str, columns: int) -> str:
    """As many whole parts of a status as a line of so many columns has room for, the first ones."""
    parts = status.split(" · ")
    while len(parts) > 1 and len(" · ".join(parts)) >= columns:
        parts.pop()
    return " · ".join(parts)


def _history(path: Path, sink: TextIO) -> "History":
    """The history in the file; if the file cannot be used, a history of this process only."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("ab").close()
    except OSError as exc:
        write(sink, f"note  Prompts are not saved: {path}: {exc.strerror}.\n")
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys(commands: Sequence[str], pasted: list[str]) -> "KeyBindings":
    """`pasted` gets the texts that are pasted."""
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()

    @keys.add(Keys.BracketedPaste)
    def paste(event: "KeyPressEvent") -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        pasted.append(text)
        event.current_buffer.insert_text(text)

    @keys.add("enter")
    def submit(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: "KeyPressEvent") -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("tab")
    def complete(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        found = [word for word in commands if buffer.text.startswith("/") and word.startswith(buffer.text)]
        if len(found) == 1:
            # Not through the menu, which ignores Tab while it is being made for the last letter.
            buffer.document = Document(found[0])
        elif buffer.complete_state:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    return keys


_BEGUN = re.compile(r"""(?<!\S)@(?:"([^"\n]*)|([^\s"]*))\Z""")
"""The name of a file that is being typed, in quotes or not."""


def _whole(found: "Completion", typed: str, quote: str) -> "Completion":
    """The completion of a name after `@`, in quotes if it has a space: without them it would end there."""
    from prompt_toolkit.completion import Completion

    name = typed[: len(typed) + found.start_position] + found.text
    if not quote and " " not in name:
        return found
    is_folder = found.display_text.endswith("/")
    text = f'"{name}' + ("" if is_folder else '"')
    return Completion(text, -len(typed) - len(quote), display=found.display)


def _completer(prompted: Prompted, meanings: Mapping[str, str]) -> "Completer":
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    files = PathCompleter(get_paths=prompted.files, expanduser=True)

    class Words(Completer):
        """Slash commands at the beginning of a line, what may follow them, and names of files after @."""

        def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
            typed = document.text
            if begun := _BEGUN.search(document.text_before_cursor):
                quote, typed_name = ('"', begun[1]) if begun[1] is not None else ("", begun[2])
                for one in files.get_completions(Document(typed_name), event):
                    yield _whole(one, typed_name, quote)
            elif typed.startswith("/") and document.is_cursor_at_the_end:
                for part, word, meaning in _words(typed, prompted, meanings):
                    yield Completion(word, -len(part), display_meta=meaning)

    return Words()


def _words(typed: str, prompted: Prompted, meanings: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Slash commands that begin as typed, or what may follow one: the begun part, the word, its meaning."""
    command, space, rest = typed[1:].partition(" ")
    if not space:
        yield from ((typed, word, meaning) for word, meaning in meanings.items() if word.startswith(typed))
    elif " " not in rest:
        yield from ((rest, word, "") for word in prompted.words(command) if word.startswith(rest))
