import re

from smolagents import tool

FORM = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


@tool
def roman_to_integer(numeral: str) -> int:
    """Convert a Roman numeral in its usual form to the number it stands for, 1 to 3999.

    Args:
        numeral: The Roman numeral, in capitals or small letters.

    Returns:
        The number.
    """
    signs = numeral.strip().upper()
    if not signs or not FORM.fullmatch(signs):
        raise ValueError(f"{numeral!r} is not a Roman numeral in its usual form")
    total = 0
    for sign, following in zip(signs, signs[1:] + " ", strict=True):
        value = VALUES[sign]
        total += -value if value < VALUES.get(following, 0) else value
    return total
