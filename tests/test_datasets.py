"""The data sets that ship with the package are those that they are said to be."""

from sklearn.datasets import load_breast_cancer as sklearns

from vae_anomaly.datasets import load_breast_cancer


def test_the_table_is_scikit_learns():
    table, expected = load_breast_cancer(), sklearns()
    assert (table["diagnosis"] == "malignant").tolist() == (expected.target == 0).tolist()
    measurements = table.drop(columns="diagnosis")
    assert list(measurements) == [name.replace(" ", "_") for name in expected.feature_names]
    assert (measurements.to_numpy() == expected.data).all()
