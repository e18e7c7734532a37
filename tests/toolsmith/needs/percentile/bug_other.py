import math

from smolagents import tool


@tool
def percentile(numbers: list[float], percent: float = 50) -> float:
    """A percentile of a list of numbers, with linear interpolation between neighbours.

    Args:
        numbers: The numbers, in any order.
        percent: Which percentile, 0 to 100.

    Returns:
        The percentile.
    """
    if not numbers:
        raise ValueError("there are no numbers")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{number!r} is not a number")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}, but must be 0 to 100")
    ordered = sorted(numbers)
    position = percent / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = math.ceil(position)
    return ordered[below] * (above - position) + ordered[above] * (position - below)
