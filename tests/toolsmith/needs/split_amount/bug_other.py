import re

from smolagents import tool


@tool
def split_amount(amount: str, weights: list[int]) -> list[str]:
    """Divide an amount of money by weights into parts of whole cents that add up to it exactly.

    Args:
        amount: The amount, such as 100, 99.9 or 0.05.
        weights: Whole numbers of at least 0, not all 0.

    Returns:
        One part for each weight, with two decimals.
    """
    found = re.fullmatch(r"([0-9]+)(?:\.([0-9]{1,2}))?", amount)
    if not found:
        raise ValueError(f"{amount!r} is not an amount such as 12.50")
    if any(weight < 0 for weight in weights):
        raise ValueError("a weight is negative")
    total = sum(weights)
    if total == 0:
        raise ValueError("there has to be a weight above 0")
    cents = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    shares = [cents * weight / total for weight in weights]
    parts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda at: parts[at] - shares[at])
    for at in by_remainder[: cents - sum(parts)]:
        parts[at] += 1
    return [f"{part // 100}.{part % 100:02d}" for part in parts]
