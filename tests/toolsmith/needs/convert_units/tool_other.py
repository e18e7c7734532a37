from fractions import Fraction

from smolagents import tool

# Everything is a straight line to the base unit: base = value * factor + offset.
UNITS = {
    "mm": ("length", Fraction(1, 1000), 0),
    "cm": ("length", Fraction(1, 100), 0),
    "m": ("length", Fraction(1), 0),
    "km": ("length", Fraction(1000), 0),
    "in": ("length", Fraction("0.0254"), 0),
    "ft": ("length", Fraction("0.3048"), 0),
    "yd": ("length", Fraction("0.9144"), 0),
    "mi": ("length", Fraction("1609.344"), 0),
    "g": ("mass", Fraction(1), 0),
    "kg": ("mass", Fraction(1000), 0),
    "oz": ("mass", Fraction("28.349523125"), 0),
    "lb": ("mass", Fraction("453.59237"), 0),
    "K": ("temperature", Fraction(1), Fraction(0)),
    "C": ("temperature", Fraction(1), Fraction("273.15")),
    "F": ("temperature", Fraction(5, 9), Fraction("459.67") * 5 / 9),
}


@tool
def convert_units(value: float, from_unit: str, to_unit: str) -> float:
    """Convert between units of length, mass and temperature.

    Args:
        value: The amount.
        from_unit: Its unit.
        to_unit: The unit wanted.

    Returns:
        The amount in the unit wanted.
    """
    for unit in (from_unit, to_unit):
        if unit not in UNITS:
            raise ValueError(f"the unit {unit!r} is unknown; there are {', '.join(UNITS)}")
    kind, factor, offset = UNITS[from_unit]
    other, divisor, shift = UNITS[to_unit]
    if kind != other:
        raise ValueError(f"{from_unit} measures {kind}, but {to_unit} measures {other}")
    # Fraction(str(…)) takes 98.6 for what is written, not for the float next to it.
    base = Fraction(str(value)) * factor + offset
    if kind == "temperature" and base < 0:
        raise ValueError(f"{value} {from_unit} lies below absolute zero")
    return float((base - shift) / divisor)
