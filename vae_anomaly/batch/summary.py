"""What a batch of scored rows looked like, beside the rows that the model was calibrated on."""

from collections import Counter

import numpy as np

from vae_anomaly.scoring.calibration import effective_rows, percent
from vae_anomaly.scoring.discoveries import FEWEST_ROWS, estimate_anomaly_share
from vae_anomaly.tables.drift import (
    DriftTally,
    has_moved,
    n_trained,
    rare_shares,
    what_drifted,
)
from vae_anomaly.tables.names import listed
from vae_anomaly.tables.profiles import LARGEST_INDEX

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Scores are counted by their first bits, to about 0.2% of each: a few thousand bins at most.
_DROPPED_BITS = 14
_FLOAT32_RANGE = np.finfo(np.float32).min, np.finfo(np.float32).max
# Calibration scores that rows are counted between: a state of bounded size.
_MOST_KNOTS = 999
# Dates outside of the training period are worth a warning beyond this share.
_LEAST_OUTSIDE = 0.01
# The batch as a whole is unlike the training data beyond this distance of the two distribution
# functions, if it is also beyond what chance gives once in a thousand batches.
_LEAST_DISTANCE = 0.1
_CRITICAL = 1.95
# What a share is of, in words.
_OF = {"missing": "are ", "unseen": "that are not missing are "}
# Columns that have drifted are warned of by name, those that moved most.
_SHOWN = 3
# More quarantined rows than this share are worth a warning.
_LEAST_QUARANTINED = 0.01


class Tally:
    """Counts over the chunks of a batch; of bounded size, whatever the number of rows.

    Parameters
    ----------
    preprocessor : vae_anomaly.tables.preprocessing.TablePreprocessor or None
        None: images, which have no columns.
    calibration_scores : (m,) array
        Ascending.
    state : dict or None
        The ``state`` of an earlier tally, to go on from.
    pooled : bool
        The calibration scores are those of several folds.
    """

    def __init__(self, preprocessor, calibration_scores, state=None, *, pooled=False):
        self._schema = preprocessor.schema() if preprocessor else []
        all_levels = preprocessor.levels if preprocessor else {}
        self._levels = {name: set(levels) for name, levels in all_levels.items()}
        # Shares of training cells that are none of the levels: values that are rare.
        self._rare = rare_shares(preprocessor) if preprocessor else {}
        self._n_trained = n_trained(preprocessor) if preprocessor else 0.0
        self._periods = {
            column["name"]: (column["low"], column["high"])
            for column in self._schema
            if column["kind"] == "datetime" and column["missing_share"] < 1
        }
        self._calibration = np.asarray(calibration_scores)
        state = state or {}
        self.counts = Counter(state.get("counts", {}))
        self.first_bad = state.get("first_bad", "")
        self._missing = Counter(state.get("missing", {}))
        self._unseen = Counter(state.get("unseen", {}))
        self._outside = Counter(state.get("outside", {}))
        self._drift = DriftTally(preprocessor, state.get("drift")) if preprocessor else None
        self._bins = Counter({int(key): n for key, n in state.get("bins", {}).items()})
        m = len(self._calibration)
        n_knots = min(m, _MOST_KNOTS)
        ranks = np.round(np.arange(1, n_knots + 1) * (m + 1) / (n_knots + 1)).astype(int)
        self._knots = self._calibration[ranks - 1]
        self._below = np.array(state.get("below", [0] * n_knots))
        self._effective = effective_rows(m, pooled)

    def update(self, arrays, outputs, n_bad, first_bad=""):
        """Count the rows of a chunk.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
            As the scorer takes them.
        outputs : dict of arrays (n,)
            ``score`` and ``is_anomaly``.
        n_bad : int
            Rows that could not be read.
        first_bad : str
            Where the first of them is, and what is wrong with it.
        """
        self.first_bad = self.first_bad or first_bad
        scores = outputs["score"]
        infinite = np.zeros(len(scores), dtype=bool)
        for name, array in arrays.items():
            if name in self._levels:
                levels = self._levels[name]
                self._missing[name] += int((array == "").sum())
                self._unseen[name] += sum(text not in levels for text in array if text)
            else:
                self._missing[name] += int(np.isnan(array).sum())
                infinite |= np.isinf(array)
            if name in self._periods:
                low, high = self._periods[name]
                self._outside[name] += int(((array < low) | (array > high)).sum())
        if self._drift:
            self._drift.update(arrays)
        self.counts.update(
            read=len(scores) + n_bad,
            scored=len(scores),
            quarantined=n_bad,
            anomalies=int(outputs["is_anomaly"].sum()),
            infinite=int(infinite.sum()),
        )
        keys, counts = np.unique(
            np.clip(scores, *_FLOAT32_RANGE).astype(np.float32).view(np.int32) >> _DROPPED_BITS,
            return_counts=True,
        )
        self._bins.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
        self._below += np.searchsorted(np.sort(scores), self._knots, side="left")

    def state(self):
        """Return all counts as plain data, for JSON."""
        return {
            "counts": dict(self.counts),
            "missing": dict(self._missing),
            "unseen": dict(self._unseen),
            "outside": dict(self._outside),
            "drift": self._drift.state() if self._drift else None,
            "bins": dict(self._bins),
            "below": self._below.tolist(),
            "first_bad": self.first_bad,
        }

    def report(self):
        """Return the summary.

        Returns
        -------
        dict
            Plain data: ``rows_read``, ``rows_scored``, ``rows_quarantined``, ``anomalies``,
            ``rows_with_infinities``; ``anomaly_share``, the estimated ``share`` of anomalies with
            its interval (``low``, ``high``, ``level``); ``score_quantiles`` of the batch (to
            about 0.2%) and of the calibration rows; ``moved_columns``, whose share of missing
            cells moved, or that of levels that fit has not seen among the other cells;
            ``drifted_columns``, as ``DriftTally.found``; ``training_periods`` of columns of dates,
            and the share of the batch outside; ``warnings``, sentences.
        """
        counts = {
            name: self.counts[name]
            for name in ("read", "scored", "quarantined", "anomalies", "infinite")
        }
        moved = self._moved()
        drifted = self._drift.found() if self._drift else []
        return {
            "rows_read": counts["read"],
            "rows_scored": counts["scored"],
            "rows_quarantined": counts["quarantined"],
            "anomalies": counts["anomalies"],
            "rows_with_infinities": counts["infinite"],
            "anomaly_share": self.anomaly_share(),
            "score_quantiles": self._score_quantiles(),
            "moved_columns": moved,
            "drifted_columns": drifted,
            "training_periods": self._training_periods(),
            "warnings": self._warnings(counts, moved, drifted),
        }

    def anomaly_share(self):
        """Estimate the share of anomalies in the batch, as a dict; None of too few rows."""
        n = self.counts["scored"]
        if n == 0 or len(self._knots) < FEWEST_ROWS:
            return None
        # Rows with 0, 1, ... all of the knots at or below their score.
        counts = np.diff(np.concatenate([[0], self._below, [n]]))
        share = estimate_anomaly_share(counts, n_effective=self._effective)
        return {name: getattr(share, name) for name in ("share", "low", "high", "level")}

    def score_sample(self, most):
        """Return scores that stand for those of the batch, each rounded to about 0.2%."""
        keys = np.array(sorted(self._bins), dtype=np.int32)
        counts = np.array([self._bins[int(key)] for key in keys])
        values = (keys << _DROPPED_BITS).view(np.float32).astype(float)
        share = min(1.0, most / max(counts.sum(), 1))
        return np.repeat(values, np.ceil(counts * share).astype(int))

    def _score_quantiles(self):
        n = self.counts["scored"]
        keys = np.array(list(self._bins), dtype=np.int32)
        values = (keys << _DROPPED_BITS).view(np.float32).astype(float)
        order = np.argsort(values)
        cumulated = np.cumsum(np.array([self._bins[int(key)] for key in keys[order]], dtype=int))
        calibration = np.quantile(self._calibration, _QUANTILES).tolist()
        return [
            {
                "share": share,
                "batch": float(values[order][np.searchsorted(cumulated, share * n)]) if n else None,
                "calibration": expected,
            }
            for share, expected in zip(_QUANTILES, calibration, strict=True)
        ]

    def _moved(self):
        rows, m, moved = self.counts["scored"], self._n_trained, []
        for column in self._schema if rows else ():
            name, lacking = column["name"], column["missing_share"]
            found = {"missing": (self._missing[name], lacking, rows, m)}
            present, trained = rows - self._missing[name], m * (1 - lacking)
            if name in self._levels and present and trained:
                found["unseen"] = (self._unseen[name], self._rare[name], present, trained)
            for what, (count, expected, n, n_training) in found.items():
                if has_moved(count / n, expected, n, n_training):
                    moved.append(
                        {"column": name, "share": what, "batch": count / n, "training": expected}
                    )
        return moved

    def _training_periods(self):
        n = self.counts["scored"]
        return [
            {
                "column": name,
                "first": _day(low),
                "last": _day(high),
                "outside": self._outside[name] / n if n else None,
            }
            for name, (low, high) in self._periods.items()
        ]

    def _warnings(self, counts, moved, drifted):
        n, m = counts["scored"], len(self._calibration)
        warnings = [
            f"column {m['column']!r}: {m['batch']:.1%} of the cells "
            f"{_OF[m['share']]}{m['share']}, {m['training']:.1%} in training"
            for m in moved
        ]
        shown = sorted(drifted, key=lambda found: -found["index"])[:_SHOWN]
        warnings += [
            f"{what_drifted(d)} distributed unlike in training: population stability index "
            f"{d['index']:.2f}, over {LARGEST_INDEX}"
            for d in shown
        ]
        if len(drifted) > len(shown):
            warnings.append(
                f"{len(drifted) - len(shown)} more columns are distributed unlike in training; "
                "drifted_columns of the summary has all"
            )
        warnings += [
            f"column {name!r}: {self._outside[name] / n:.1%} of the dates are outside of the "
            f"training period, {_day(low)} to {_day(high)}; that alone is not scored"
            for name, (low, high) in self._periods.items()
            if self._outside[name] > _LEAST_OUTSIDE * n
        ]
        if counts["quarantined"] > _LEAST_QUARANTINED * counts["read"]:
            such = f", such as {self.first_bad}" if self.first_bad else ""
            share = counts["quarantined"] / counts["read"]
            warnings.append(f"{share:.1%} of the rows could not be read{such}; see the quarantine")
        if counts["infinite"]:
            warnings.append(
                f"{counts['infinite']} rows have infinite cells; they were scored as the "
                "farthest value there is"
            )
        if n:
            expected = np.searchsorted(self._calibration, self._knots, side="left") / m
            distance = np.abs(self._below / n - expected).max()
            if distance > max(_LEAST_DISTANCE, _CRITICAL * np.sqrt(1 / n + 1 / m)):
                warnings.append(
                    "the batch as a whole looks unlike the training data: its distribution of "
                    f"scores differs by {distance:.2f} (Kolmogorov-Smirnov distance)"
                    + _with_names(drifted, moved)
                )
        return warnings


def _with_names(drifted, moved):
    names = list(dict.fromkeys(f"{found['column']!r}" for found in [*drifted, *moved]))
    return f"; look at {listed(names, 5)}" if names else ""


def _day(seconds):
    """The day of a moment in seconds since 1970-01-01 UTC, as text."""
    return str(np.datetime64(int(seconds // 86400), "D"))


def summary_text(report):
    """Return the lines that show a ``Tally.report``."""
    rows = report["rows_scored"]
    share = f" ({report['anomalies'] / rows:.2%})" if rows else ""
    lines = [
        f"{report['rows_read']} rows read, {rows} scored, {report['rows_quarantined']} "
        f"quarantined; {report['anomalies']} anomalies{share}"
    ]
    if report["anomaly_share"]:
        share, low, high, level = report["anomaly_share"].values()
        lines.append(
            f"about {percent(share)} of these rows are anomalies, {percent(low)} to "
            f"{percent(high)} with {level:.0%} confidence"
        )
    if rows:
        lines.append("score quantiles: batch (calibration)")
        lines.append(
            ", ".join(
                f"{q['share']:.0%}: {q['batch']:.4g} ({q['calibration']:.4g})"
                for q in report["score_quantiles"]
            )
        )
    return lines + [f"warning: {warning}" for warning in report["warnings"]]
