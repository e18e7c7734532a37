"""What a model replies for the sample tool of these tests, `count_words`."""

from typing import Any

SPEC: dict[str, Any] = {
    "name": "count_words",
    "purpose": "Count how often each word stands in a text file.",
    "inputs": {
        "path": {"type": "string", "description": "The file, relative to the workspace."},
        "top": {"type": "integer", "description": "How many words to return.", "default": 3},
    },
    "output_type": "object",
    "output_description": "Word to count, most frequent first.",
    "errors": [{"type": "FileNotFoundError", "when": "there is no file at path"}],
    "workspace": "read",
    "examples": [
        {
            "title": "counts",
            "files": {"a.txt": "b a b\n"},
            "arguments": {"path": "a.txt"},
            "expected": {"b": 2, "a": 1},
        },
    ],
}
CASES: dict[str, Any] = {
    "cases": [
        {
            "title": "the top",
            "files": {"sub/a.txt": "b a b\n"},
            "arguments": {"path": "sub/a.txt", "top": 1},
            "check": "len(value) == 1 and value['b'] == 2 and files['sub/a.txt'] == 'b a b\\n'",
        },
        {
            "title": "an empty file",
            "files": {"a.txt": ""},
            "arguments": {"path": "a.txt"},
            "expected": {},
            "edge": True,
        },
        {"title": "no file", "arguments": {"path": "b.txt"}, "error": "FileNotFoundError"},
    ]
}
CODE = '''from collections import Counter
from pathlib import Path

from smolagents import tool


def words_of(text: str) -> list[str]:
    """Split a text into its words.

    They are what stands between blanks.
    """
    return text.split()


@tool
def count_words(path: str, top: int = 3) -> dict[str, int]:
    """Count how often each word stands in a text file.

    Args:
        path: The file, relative to the workspace.
        top: How many words to return.

    Returns:
        Word to count, most frequent first.
    """
    text = Path(path).read_text(encoding="utf-8")
    return dict(Counter(words_of(text)).most_common(top))
'''
