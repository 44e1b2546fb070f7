"""How improbable the numbers of a row are, each given the others, under a Student's t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Standard deviations, in scales of the preprocessor, that are rounding.
_LEAST_DEVIATION = 1e-6
# The prior counts as one row, of which the features are uncorrelated.
_PRIOR_ROWS = 1.0
# Degrees of freedom. Where several columns are wild, more of them blame the others more; from 1 to
# 100 the right column is named as often (benchmarks/LOG.md).
_FREEDOM = 30.0


class ConditionalStudent:
    r"""A multivariate Student's t of rows, that tells what each number should be by the others.

    .. math:: -\log p(x_b | x_{-b}) = \frac{\nu + d}2 \log\left(1 + \frac Q\nu\right)
        - \frac{\nu + d - w}2 \log\left(1 + \frac{Q - q_b}\nu\right) + \text{const}

    Of d observed features, b are the w of one column. With r = P (x - m), Q is r^T (x - m), and
    q_b is r_b^T P_bb^-1 r_b: what Q loses without b (Bishop 2006, "Pattern Recognition and
    Machine Learning", sections 2.3.1 and 2.3.7). Where the rest of a row is wild already, little
    is made of one more number; a Gaussian would blame all that a wild value goes with.

    The inverse of P is the covariance of the rows and of one more, of uncorrelated features; times
    m / (m - d - 2) for m rows, since the inverse of a sample's covariance is too large by that
    (Anderson 2003, "An Introduction to Multivariate Statistical Analysis", lemma 7.7.1).

    Parameters
    ----------
    rows : (m, features) array
    column_widths : sequence of int
        Features that each column takes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, noise = rng.normal(size=(2, 500))
    >>> student = ConditionalStudent(np.stack([a, a + 0.5 * noise], axis=1), [1, 1])
    >>> student.gains([[0.0, 0.0], [1.0, -1.0]], np.ones((2, 2))).round(1).tolist()
    [[-0.5, -0.5], [6.7, 6.5]]
    """

    def __init__(self, rows: np.ndarray, column_widths: Sequence[int]) -> None:
        rows = np.asarray(rows, dtype=np.float64)
        self._column_of_feature = np.repeat(np.arange(len(column_widths)), column_widths)
        self._n_columns = len(column_widths)
        self._mean = rows.mean(axis=0)
        deviation = rows.std(axis=0)
        self._varies = deviation > _LEAST_DEVIATION
        self._deviation = np.where(self._varies, deviation, 1.0)
        of_rows = self._standardised(rows)
        prior = _PRIOR_ROWS * np.eye(len(deviation))
        self._covariance = (of_rows.T @ of_rows + prior) / len(rows)
        self._unbiased = (len(rows) - int(self._varies.sum()) - 2) / len(rows)

    @property
    def is_sure(self) -> bool:
        """Whether there are rows enough for so many features that vary."""
        return self._unbiased > 0

    def _standardised(self, rows):
        return (np.asarray(rows, dtype=np.float64) - self._mean) / self._deviation

    def gains(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Return what rows gain where a column is unknown, beyond what that is for usual rows.

        Parameters
        ----------
        x : (n, features) array
        observed : (n, columns) array
            1 where the column had a value.

        Returns
        -------
        (n, columns) float64 array
            ``-log p(column | the others observed)`` in nats, less what it is at the mean of Q and
            of q; NaN where the column is missing, or never varied. Each row's by itself.
        """
        z = self._standardised(x)
        gains = np.full((len(z), self._n_columns), np.nan)
        patterns, place = np.unique(np.asarray(observed) > 0, axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            rows = np.flatnonzero(place.ravel() == index)
            is_used = pattern[self._column_of_feature] & self._varies
            precision = self._unbiased * np.linalg.inv(self._covariance[np.ix_(is_used, is_used)])
            # A product for each row: one of all rows has other last bits for other rows.
            used = z[rows][:, is_used, None]
            residuals = np.matmul(precision, used)
            whole = np.matmul(residuals.transpose(0, 2, 1), used)[:, 0, 0]
            column_of_feature = self._column_of_feature[is_used]
            for column in np.unique(column_of_feature):
                own = column_of_feature == column
                r = residuals[:, own, 0]
                inverse = np.linalg.inv(precision[np.ix_(own, own)])
                part = (r * np.einsum("ni,ij->nj", r, inverse)).sum(axis=1)
                sizes = int(is_used.sum()), int(own.sum())
                gains[rows, column] = _surprise(whole, part, *sizes) - _surprise(*sizes, *sizes)
        return gains


def _surprise(whole, part, n_features, n_own):
    """-log p(own | the others) but for a constant, of Q of all features and q of some."""
    of_whole = (_FREEDOM + n_features) / 2 * np.log1p(whole / _FREEDOM)
    rest = np.maximum(whole - part, 0.0)  # rounding
    return of_whole - (_FREEDOM + n_features - n_own) / 2 * np.log1p(rest / _FREEDOM)
