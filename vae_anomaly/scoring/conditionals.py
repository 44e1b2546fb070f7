"""How improbable the numbers of a row are, each given the others, under a Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Standard deviations, in scales of the preprocessor, that are rounding.
_LEAST_DEVIATION = 1e-6
# The prior counts as one row, of which the features are uncorrelated.
_PRIOR_ROWS = 1.0


class ConditionalGaussian:
    r"""A Gaussian of the numbers of rows, that tells what each number should be by the others.

    .. math:: -\log p(x_b | x_{-b}) = \tfrac12 \, r_b^\top \Lambda_{bb}^{-1} r_b + \text{const},
        \quad r = \Lambda (x - \mu)

    :math:`\Lambda` is the precision of the observed features and b those of one column (Bishop
    2006, "Pattern Recognition and Machine Learning", equation 2.75). The covariance of m rows is
    that of the sample and of one more row, of uncorrelated features; its inverse times
    (m - d - 2) / m has no bias, where d features vary (Anderson 2003, "An Introduction to
    Multivariate Statistical Analysis", lemma 7.7.1). Of the other columns a value beyond all
    rows tells what the farthest of these would, so that one wild value does not make its whole
    row improbable.

    Parameters
    ----------
    rows : (m, features) array
    column_widths : sequence of int
        Features that each column takes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, noise = rng.normal(size=(2, 500))
    >>> gaussian = ConditionalGaussian(np.stack([a, a + 0.1 * noise], axis=1), [1, 1])
    >>> gaussian.gains([[0.0, 0.0], [1.0, -1.0]], np.ones((2, 2))).round().tolist()
    [[-0.0, -0.0], [152.0, 152.0]]
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
        self._lowest, self._highest = of_rows.min(axis=0), of_rows.max(axis=0)
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
        """Return what rows gain where a column is unknown, beyond what that is on average.

        Parameters
        ----------
        x : (n, features) array
        observed : (n, columns) array
            1 where the column had a value.

        Returns
        -------
        (n, columns) float64 array
            ``-log p(column | the others observed)`` in nats, less its mean; NaN where the column
            is missing, or never varied. Each row's by itself.
        """
        z = self._standardised(x)
        inside = np.clip(z, self._lowest, self._highest)
        gains = np.full((len(z), self._n_columns), np.nan)
        patterns, place = np.unique(np.asarray(observed) > 0, axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            rows = np.flatnonzero(place.ravel() == index)
            is_used = pattern[self._column_of_feature] & self._varies
            precision = self._unbiased * np.linalg.inv(self._covariance[np.ix_(is_used, is_used)])
            # A product for each row: one of all rows has other last bits for other rows.
            residuals = np.matmul(precision, inside[rows][:, is_used, None])[:, :, 0]
            beyond = (z - inside)[rows][:, is_used]
            column_of_feature = self._column_of_feature[is_used]
            for column in np.unique(column_of_feature):
                own = column_of_feature == column
                of_own = precision[np.ix_(own, own)]
                r = residuals[:, own] + np.einsum("ni,ij->nj", beyond[:, own], of_own)
                scaled = np.einsum("ni,ij->nj", r, np.linalg.inv(of_own))
                gains[rows, column] = ((r * scaled).sum(axis=1) - own.sum()) / 2
        return gains
