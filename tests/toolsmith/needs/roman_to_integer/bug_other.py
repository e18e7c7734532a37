import re

from smolagents import tool

REPEATED = re.compile("IIII|XXXX|CCCC|MMMM|VV|LL|DD")
SUBTRACTED = {"IV", "IX", "XL", "XC", "CD", "CM"}
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
    if not signs or not set(signs) <= set(VALUES) or REPEATED.search(signs):
        raise ValueError(f"{numeral!r} is not a Roman numeral in its usual form")
    total = 0
    for sign, following in zip(signs, signs[1:] + " ", strict=True):
        value = VALUES[sign]
        if value >= VALUES.get(following, 0):
            total += value
        elif sign + following in SUBTRACTED:
            total -= value
        else:
            raise ValueError(f"{numeral!r}: {sign} does not stand before {following}")
    return total
