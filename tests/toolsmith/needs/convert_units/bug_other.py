from smolagents import tool

INCH = 0.0254
POUND = 0.45359237
KINDS = (
    {
        "mm": 0.001,
        "cm": 0.01,
        "m": 1.0,
        "km": 1000.0,
        "in": INCH,
        "ft": 12 * INCH,
        "yd": 36 * INCH,
        "mi": 1760 * 36 * INCH,
    },
    {"g": 0.001, "kg": 1.0, "oz": POUND / 16, "lb": POUND},
)


@tool
def convert_units(value: float, from_unit: str, to_unit: str) -> float:
    """Convert a length, a mass or a temperature from one unit to another of the same kind.

    Args:
        value: The amount in from_unit.
        from_unit: mm cm m km in ft yd mi, g kg oz lb, or C F K.
        to_unit: One of the units of the same kind.

    Returns:
        The amount in to_unit.
    """
    for factors in KINDS:
        if from_unit in factors and to_unit in factors:
            return value if from_unit == to_unit else value * factors[from_unit] / factors[to_unit]
    if from_unit in ("C", "F", "K") and to_unit in ("C", "F", "K"):
        return _temperature(value, from_unit, to_unit)
    raise ValueError(f"{from_unit!r} cannot be converted to {to_unit!r}: unknown, or of different kinds")


def _temperature(value: float, from_unit: str, to_unit: str) -> float:
    if from_unit == to_unit:
        return value
    lowest = {"C": -273.15, "F": -459.67, "K": 0}[from_unit]
    if value < lowest:
        raise ValueError(f"{value} {from_unit} lies below absolute zero, {lowest} {from_unit}")
    celsius = {"C": value, "F": (value - 32) * 5 / 9, "K": value - 273.15}[from_unit]
    return {"C": celsius, "F": celsius * 9 / 5 + 32, "K": celsius + 273.15}[to_unit]
