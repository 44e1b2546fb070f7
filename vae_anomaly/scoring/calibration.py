"""From scores to decisions: offsets and p-values. NumPy only; higher scores are more normal."""

import numpy as np

AUTO_FALSE_ALARM_RATE = 0.01


def offset_from_contamination(contamination, training_scores, calibration_scores):
    """Return the offset under which a score is an anomaly.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5]
        A share: this share of the training rows is flagged, as in scikit-learn.
        "auto": 1% of the calibration rows (which the model was not trained on) is flagged,
        so about 1% of new normal rows will be.
    training_scores : (n,) array
    calibration_scores : (m,) array

    Returns
    -------
    float, nats

    Raises
    ------
    ValueError
        ``contamination`` is neither.

    Examples
    --------
    >>> offset_from_contamination(0.25, [1.0, 2.0, 3.0, 4.0, 5.0], [0.0])
    2.0
    """
    if isinstance(contamination, str):
        if contamination != "auto":
            raise ValueError(
                "Expected `contamination` to be 'auto' or a number in (0, 0.5]. "
                f"Received: contamination={contamination!r}"
            )
        return float(np.quantile(calibration_scores, AUTO_FALSE_ALARM_RATE))
    if not 0 < contamination <= 0.5:
        raise ValueError(
            "Expected `contamination` to be 'auto' or a number in (0, 0.5]. "
            f"Received: contamination={contamination!r}"
        )
    return float(np.quantile(training_scores, contamination))


def offset_from_false_alarm_rate(rate, calibration_scores):
    """Return the offset under which this share of new normal rows scores.

    Parameters
    ----------
    rate : float in (0, 1)
        At least 1 / (m + 1): fewer calibration rows cannot tell.
    calibration_scores : (m,) array

    Returns
    -------
    float, nats

    Raises
    ------
    ValueError
        ``rate`` is out of range.

    Examples
    --------
    >>> offset_from_false_alarm_rate(0.25, [1.0, 2.0, 3.0, 4.0, 5.0])
    2.0
    """
    least = 1 / (len(calibration_scores) + 1)
    if not least <= rate < 1:
        raise ValueError(
            f"Expected a false-alarm rate from {least:.3g} (1 / (calibration rows + 1)) to 1. "
            f"Received: {rate!r}."
        )
    return float(np.quantile(calibration_scores, rate))


def p_values(scores, calibration_scores):
    """Conformal p-value of each score: how rare so low a score is among normal rows.

    ``(1 + #{calibration <= score}) / (n_calibration + 1)`` (Bates et al. 2023, "Testing for
    outliers with conformal p-values", equation 2).

    Parameters
    ----------
    scores : (n,) array
    calibration_scores : (m,) array, m >= 1
        Scores of normal rows that the model was not trained on.

    Returns
    -------
    (n,) float64 array in [1 / (m + 1), 1]

    Examples
    --------
    >>> p_values([0.5, 9.0], [1.0, 2.0, 3.0]).tolist()
    [0.25, 1.0]
    """
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    at_or_below = np.searchsorted(calibration, np.asarray(scores, np.float64), side="right")
    return (1.0 + at_or_below) / (len(calibration) + 1.0)
