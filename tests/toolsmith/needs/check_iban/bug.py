import re

from smolagents import tool

LENGTHS = {"AT": 20, "BE": 16, "CH": 21, "DE": 22, "ES": 24, "FR": 27, "GB": 22, "NL": 18}


@tool
def check_iban(iban: str) -> dict[str, str]:
    """Check an IBAN by length and check digits, and give its parts.

    Args:
        iban: The number; spaces and case do not matter.

    Returns:
        country, check_digits, account and formatted.
    """
    if not iban.isascii():
        raise ValueError(f"{iban!r} is not of the form of an IBAN")
    compact = iban.replace(" ", "")
    number = compact.upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]+", number):
        raise ValueError(f"{iban!r} is not of the form of an IBAN")
    country, digits, account = number[:2], number[2:4], number[4:]
    if country not in LENGTHS:
        raise ValueError(f"the country {country} is not known")
    if len(number) != LENGTHS[country]:
        raise ValueError(f"an IBAN of {country} has {LENGTHS[country]} signs, not {len(number)}")
    if int("".join(str(int(sign, 36)) for sign in account + country + digits)) % 97 != 1:
        raise ValueError(f"the check digits of {iban!r} do not fit")
    groups = [compact[at : at + 4] for at in range(0, len(compact), 4)]
    return {"country": country, "check_digits": digits, "account": account, "formatted": " ".join(groups)}
