"""The small real data sets that ship with the package."""

from importlib import resources


def load_breast_cancer():
    """Return the Breast Cancer Wisconsin (Diagnostic) table: benign is normal.

    Returns
    -------
    pandas.DataFrame, 569 rows
        "diagnosis" ("benign" in 357 rows, "malignant" in 212), then 30 measurements of the
        cell nuclei in an image, as floats. Source and licence: ``data/README.md``.

    Examples
    --------
    >>> from vae_anomaly.datasets import load_breast_cancer
    >>> load_breast_cancer().shape
    (569, 31)
    """
    import pandas as pd

    with resources.files("vae_anomaly").joinpath("data/breast_cancer.csv").open("rb") as file:
        return pd.read_csv(file)
