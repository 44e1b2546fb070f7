"""The category of warnings about data that are legal but probably a mistake."""


class DataWarning(UserWarning):
    """Data are legal, but probably not what was meant; the message says what to do.

    Examples are fewer than 100 calibration rows, a header made of numbers, or numbers that look
    like the names of rows. The category lets programs silence these warnings, or turn them into
    errors, apart from all others.

    Examples
    --------
    >>> import warnings
    >>> from vae_anomaly import DataWarning
    >>> warnings.simplefilter("ignore", DataWarning)
    """
