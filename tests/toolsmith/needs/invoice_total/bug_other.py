import re
from decimal import ROUND_HALF_UP, Decimal, localcontext

from smolagents import tool

CENT = Decimal("0.01")


@tool
def invoice_total(lines: list[dict]) -> dict:
    """Add up the lines of an invoice: net, value-added tax for each rate, gross.

    Args:
        lines: Objects with price, quantity and vat.

    Returns:
        net, vat and gross.
    """
    with localcontext() as context:
        context.prec = 60
        by_rate: dict[int, Decimal] = {}
        for line in lines:
            price, quantity, rate = _checked(line)
            by_rate[rate] = by_rate.get(rate, Decimal(0)) + price * quantity
        net = sum(by_rate.values(), Decimal(0))
        taxes: dict[int, Decimal] = {}
        for rate, amount in by_rate.items():
            tax = (amount * rate / 100).quantize(CENT, rounding=ROUND_HALF_UP)
            if tax:
                taxes[rate] = tax
        gross = net + sum(taxes.values(), Decimal(0))
        return {
            "net": f"{net:.2f}",
            "vat": {str(rate): f"{tax:.2f}" for rate, tax in taxes.items()},
            "gross": f"{gross:.2f}",
        }


def _checked(line: dict) -> tuple[Decimal, int, int]:
    lacking = [name for name in ("price", "quantity", "vat") if name not in line]
    if lacking:
        raise ValueError(f"the line {line} lacks {', '.join(lacking)}")
    price, quantity, rate = line["price"], line["quantity"], line["vat"]
    if not isinstance(price, str) or not re.fullmatch(r"[0-9]+(\.[0-9]{1,2})?", price):
        raise ValueError(f"{price!r} is not a price such as 12.50")
    if type(quantity) is not int or quantity < 1:
        raise ValueError(f"{quantity!r} is not a quantity")
    if type(rate) is not int or rate < 0:
        raise ValueError(f"{rate!r} is not a rate")
    return Decimal(price), quantity, rate
