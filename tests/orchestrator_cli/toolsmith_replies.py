"""What a toolsmith's model says about one sample tool, `count_vowels`, right and wrong."""

import json
from typing import Any

SPEC: dict[str, Any] = {
    "name": "count_vowels",
    "purpose": "Count the vowels of a text.",
    "inputs": {"text": {"type": "string", "description": "The text."}},
    "output_type": "integer",
    "output_description": "The number of a, e, i, o, u in either case.",
    "errors": [{"type": "ValueError", "when": "the text is empty"}],
    "workspace": "none",
    "examples": [{"title": "an example", "arguments": {"text": "Oslo"}, "expected": 2}],
}
CASES: dict[str, Any] = {
    "cases": [
        {"title": "a word", "arguments": {"text": "banana"}, "expected": 3},
        {"title": "capitals", "arguments": {"text": "IO"}, "expected": 2},
        {"title": "nothing", "arguments": {"text": ""}, "error": "ValueError", "edge": True},
    ]
}
CODE = '''from smolagents import tool


def is_vowel(sign: str) -> bool:
    """Whether a sign is one of the five vowels."""
    return sign.lower() in set("aeiou")


@tool
def count_vowels(text: str) -> int:
    """Count the vowels of a text.

    Args:
        text: The text.

    Returns:
        The number of a, e, i, o, u in either case.
    """
    if not text:
        raise ValueError("the text is empty")
    return sum(is_vowel(sign) for sign in text)
'''

SPECIFIED = f"```json\n{json.dumps(SPEC)}\n```"
CASED = f"```json\n{json.dumps(CASES)}\n```"
WRITTEN = f"```python\n{CODE}```"
WRONG = WRITTEN.replace("sum(is_vowel(sign) for sign in text)", "7")
"""It breaks no rule, and fails all cases."""
