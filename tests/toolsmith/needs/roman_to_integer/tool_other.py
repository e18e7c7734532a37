from smolagents import tool

STEPS = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def to_roman(number: int) -> str:
    """The usual form of a number from 1 to 3999."""
    signs = ""
    for value, sign in STEPS:
        while number >= value:
            signs += sign
            number -= value
    return signs


@tool
def roman_to_integer(numeral: str) -> int:
    """Convert a Roman numeral in its usual form to the number it stands for, 1 to 3999.

    Args:
        numeral: The Roman numeral; case and white space around it do not matter.

    Returns:
        The number, 1 to 3999.
    """
    wanted = numeral.strip().upper()
    number, rest = 0, wanted
    for value, sign in STEPS:
        while rest.startswith(sign):
            number += value
            rest = rest[len(sign) :]
    # Written back, only the usual form gives the same signs again.
    if rest or not 1 <= number <= 3999 or to_roman(number) != wanted:
        raise ValueError(f"{numeral!r} is not the usual form of a number from 1 to 3999")
    return number
