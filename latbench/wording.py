"""How numbers are printed: milliseconds, percentages, and nouns that agree with their count."""


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """'1 entry', '2 entries': a count with its noun in the right number.

    Args:
        noun: the singular.
        plural: the plural; by default `noun` with an s.
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def percent(share: float, digits: int = 1, *, signed: bool = False) -> str:
    """'12.3%': a share (1.0 is 100%) with `digits` decimals, never '-0.0%'.

    Args:
        signed: write '+' before positive numbers: '+0.4%', '-0.4%', '0.0%'.
    """
    rounded = round(100 * share, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}%"


def milliseconds(value: float) -> str:
    """Three decimals, which is a microsecond; four below a tenth of a millisecond."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"
