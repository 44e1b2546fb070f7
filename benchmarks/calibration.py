"""Do decisions keep their promises? By simulated scores, and by fits to real tables.

See README.md for what the lines are.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from protocol import DATA
from scipy.stats import chi2, genpareto
from scipy.stats import t as student_t

from vae_anomaly.scoring.calibration import (
    offset_from_contamination,
    offset_from_false_alarm_rate,
    p_values,
    report_threshold,
)
from vae_anomaly.scoring.discoveries import estimate_anomaly_share, p_value_cutoff
from vae_anomaly.scoring.tails import TailFit, has_far_tail

N_FOLDS = 5


def share(values: list[bool]) -> str:
    return f"{np.mean(values):6.1%} ({np.std(values) / np.sqrt(len(values)):.1%})"


def simulate_held_out(splits: int) -> None:
    print("\nheld-out rows: rate obtained and how often it is in its interval (stated: 90%)")
    rng = np.random.default_rng(0)
    for m in (18, 50, 200, 1000, 5000):
        for rate in (0.01, 0.06):
            obtained, inside = [], []
            for _ in range(splits):
                scores = rng.uniform(size=m)
                offset = (
                    offset_from_false_alarm_rate(rate, scores)
                    if rate * (m + 1) >= 1
                    else offset_from_contamination("auto", [], scores)
                )
                report = report_threshold(offset, scores, chosen_by="")
                obtained.append(offset)
                inside.append(report.rate_low <= offset <= report.rate_high)
            print(
                f"m={m:5d} asked {rate:.0%}: expected {report.rate_expected:.2%}, "
                f"obtained {np.mean(obtained):.2%}, inside {share(inside)}"
            )


def gaussian_score(rows, new):
    centred = new - rows.mean(axis=0)
    covariance = np.cov(rows.T)
    covariance = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
    return -np.einsum("ij,ij->i", centred @ np.linalg.inv(covariance), centred) / 2


def neighbour_score(rows, new, k=3):
    squares = np.sum(new**2, axis=1)[:, None] + np.sum(rows**2, axis=1) - 2 * new @ rows.T
    return -np.sqrt(np.maximum(np.partition(squares, k, axis=1)[:, k], 0))


def simulate_pooled(splits: int) -> None:
    print("\npooled scores of 5 folds, threshold for all rows' model: the same (stated: 90%)")
    rng = np.random.default_rng(0)
    for score in (gaussian_score, neighbour_score):
        for n_rows in (30, 60, 240, 960):
            for n_columns in (3, 15):
                for heavy in (False, True):
                    obtained, inside = [], []
                    for _ in range(max(splits // (1 + n_rows // 100), 20)):
                        draw = (
                            rng.standard_normal
                            if not heavy
                            else lambda size: rng.standard_t(4, size)
                        )
                        rows, new = draw((n_rows, n_columns)), draw((2000, n_columns))
                        folds = rng.permutation(n_rows) % N_FOLDS
                        scores = np.empty(n_rows)
                        for fold in range(N_FOLDS):
                            out = folds == fold
                            scores[out] = score(rows[~out], rows[out])
                        offset = offset_from_false_alarm_rate(0.05, scores)
                        report = report_threshold(offset, scores, chosen_by="", pooled=True)
                        rate = np.mean(score(rows, new) < offset)
                        obtained.append(rate)
                        inside.append(report.rate_low <= rate <= report.rate_high)
                    print(
                        f"{score.__name__:15s} n={n_rows:4d} d={n_columns:2d} "
                        f"{'t(4)  ' if heavy else 'normal'}: expected {report.rate_expected:.2%}, "
                        f"obtained {np.mean(obtained):.2%}, inside {share(inside)}"
                    )


def simulate_tails(splits: int) -> None:
    print("\ngeneralised Pareto tails: extrapolated rate and how often it is in its interval (90%)")
    rng = np.random.default_rng(0)
    laws = {
        "chi2(5)": (chi2(5).rvs, chi2(5).sf),
        "chi2(30)": (chi2(30).rvs, chi2(30).sf),
        "t(4)^2": (
            lambda size, random_state: student_t(4).rvs(size, random_state=random_state) ** 2,
            lambda x: 2 * student_t(4).sf(np.sqrt(x)),
        ),
    }
    for m in (500, 1000, 5000):
        for name, (draw, survival) in laws.items():
            for finer in (1, 5, 50):
                rate, obtained, inside = 1 / (m + 1) / finer, [], []
                for _ in range(max(splits // 4, 20)):
                    scores = np.sort(-draw(size=m, random_state=rng))
                    n_tail = m // 10
                    excesses = scores[n_tail] - scores[:n_tail]
                    shape, _, scale = genpareto.fit(excesses, floc=0)
                    if shape <= -0.4:  # which fit_tail refuses
                        continue
                    tail = TailFit(scores[n_tail], n_tail, m, shape, scale, 1.0)
                    low, high = tail.interval(rate)
                    obtained.append(survival(-tail.offset(rate)))
                    inside.append(low <= obtained[-1] <= high)
                print(
                    f"m={m:5d} {name:8s} asked {rate:.2g}: median obtained "
                    f"{np.median(obtained):.2g}, inside {share(inside)}"
                )


def simulate_batches(splits: int) -> None:
    print(
        "\nbatches of 2000: false discoveries at fdr=0.1; share of anomalies, in its interval (90%)"
    )
    rng = np.random.default_rng(0)
    for m in (50, 200, 1000, 5000):
        for planted in (0.0, 0.01, 0.05, 0.2):
            false, found, shares, inside = [], [], [], []
            for _ in range(splits):
                calibration = rng.normal(size=m)
                is_anomaly = np.arange(2000) < round(planted * 2000)
                scores = rng.normal(size=2000) - 4 * is_anomaly
                values = p_values(scores, calibration)
                selected = values <= p_value_cutoff(values, 0.1)
                false.append(np.sum(selected & ~is_anomaly) / max(selected.sum(), 1))
                found.append(selected[is_anomaly].mean() if planted else np.nan)
                ranks = np.searchsorted(np.sort(calibration), scores, side="right")
                estimate = estimate_anomaly_share(np.bincount(ranks, minlength=m + 1))
                shares.append(estimate.share)
                inside.append(estimate.low <= planted <= estimate.high)
            print(
                f"m={m:5d} planted {planted:4.0%}: false {np.mean(false):6.1%}, found "
                f"{np.mean(found):6.1%}; share {np.mean(shares):6.2%} +- {np.std(shares):.2%}, "
                f"inside {share(inside)}"
            )


def simulate_far_tails(splits: int) -> None:
    print(
        "\ntest for a far tail: how often it speaks up on clean scores, and with 2% far anomalies"
    )
    rng = np.random.default_rng(0)
    laws = {
        "normal": lambda size: rng.normal(size=size),
        "exponential": lambda size: -rng.exponential(size=size),
        "chi2(1)": lambda size: -rng.chisquare(1, size=size),
        "t(3)": lambda size: rng.standard_t(3, size=size),
        "lognormal": lambda size: -rng.lognormal(size=size),
    }
    for name, draw in laws.items():
        for m in (50, 200, 1000):
            clean = [has_far_tail(draw(m)) for _ in range(splits)]
            far = [
                has_far_tail(np.concatenate([draw(m), -100 * draw(m // 50) ** 2])) for _ in clean
            ]
            print(f"{name:12s} m={m:4d}: clean {share(clean)}, with anomalies {share(far)}")


def fits(splits: int, sizes: list[int], tables: list[str], params: dict[str, int]) -> None:
    """Fit to normal rows of real tables, and see what share of other normal rows is flagged."""
    import warnings

    from vae_anomaly import DataWarning, VAEDetector

    warnings.simplefilter("ignore", DataWarning)

    print("\nfits: share of fresh normal rows flagged by 'auto', beside what the report states")
    for path in sorted(DATA.glob("*.npz")):
        if tables and path.stem not in tables:
            continue
        data = np.load(path, allow_pickle=False)
        normal = data["X"][data["y"] == 0].astype(float)
        for size in sizes:
            if len(normal) < 1.5 * size:
                continue
            obtained, inside, small, alarms = [], [], [], []
            for seed in range(splits):
                rows = np.random.default_rng(seed).permutation(normal)
                train, fresh = rows[:size], rows[size : size + 5000]
                detector = VAEDetector(random_state=seed, **params).fit(train)
                report = detector.threshold_report()
                obtained.append(np.mean(detector.predict(fresh) == -1))
                inside.append(report.rate_low <= obtained[-1] <= report.rate_high)
                small.append(np.mean(detector.p_values(fresh) <= 0.1))
                alarms.append(has_far_tail(detector.score_samples(fresh)[:size]))
            print(
                f"{path.stem:22s} n={size:5d}: expected {report.rate_expected:.2%}, obtained "
                f"{np.mean(obtained):.2%} (sd {np.std(obtained):.2%}), in the interval "
                f"{np.sum(inside)} of {splits}; p <= 0.1: {np.mean(small):.1%}; far tail of clean "
                f"rows: {np.sum(alarms)} of {splits}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["simulate", "fits"])
    parser.add_argument("--splits", type=int, help="[default: 400; 5 for fits]")
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 240, 2000])
    parser.add_argument("--datasets", nargs="*", default=[])
    parser.add_argument("--max-steps", type=int)
    arguments = parser.parse_args()
    if arguments.what == "fits":
        params = {} if arguments.max_steps is None else {"max_steps": arguments.max_steps}
        fits(arguments.splits or 5, arguments.sizes, arguments.datasets, params)
        return
    splits = arguments.splits or 400
    simulate_held_out(splits)
    simulate_pooled(splits)
    simulate_tails(splits)
    simulate_batches(splits)
    simulate_far_tails(splits)


if __name__ == "__main__":
    main()
