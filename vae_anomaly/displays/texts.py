"""Numbers as text for people."""


def number_text(value: float, digits: int) -> str:
    """Return a number with this number of significant digits, and all digits before the point.

    Examples
    --------
    >>> number_text(0.1 + 0.2, 6), number_text(1234567.8, 4), number_text(1e20, 4)
    ('0.3', '1234568', '1e+20')
    """
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e15 else text
