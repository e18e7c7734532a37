import re
from collections import defaultdict
from typing import Any

from smolagents import tool


def cents_of(price: Any) -> int:
    """A price as whole cents."""
    found = re.fullmatch(r"([0-9]+)(?:\.([0-9])([0-9])?)?", price) if isinstance(price, str) else None
    if found is None:
        raise ValueError(f"not a price: {price!r}")
    return int(found[1]) * 100 + int(found[2] or 0) * 10 + int(found[3] or 0)


def whole(value: Any, least: int, what: str) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")
    return value


def money(cents: int) -> str:
    """Cents as text with two decimals."""
    return f"{cents // 100}.{cents % 100:02}"


@tool
def invoice_total(lines: list[Any]) -> dict[str, Any]:
    """Net, taxes and gross of an invoice.

    Args:
        lines: The lines of the invoice.

    Returns:
        The sums as text.
    """
    sums: defaultdict[int, int] = defaultdict(int)
    for line in lines:
        try:
            price, quantity, vat = line["price"], line["quantity"], line["vat"]
        except KeyError as exc:
            raise ValueError(f"a line lacks {exc}") from exc
        sums[whole(vat, 0, "vat")] += cents_of(price) * whole(quantity, 1, "quantity")
    taxes = {rate: (cents * rate + 50) // 100 for rate, cents in sums.items()}
    net = sum(sums.values())
    return {
        "net": money(net),
        "vat": {f"{rate}": money(tax) for rate, tax in taxes.items()},
        "gross": money(net + sum(taxes.values())),
    }
