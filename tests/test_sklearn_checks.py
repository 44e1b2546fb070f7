"""scikit-learn's own checks of an estimator; none is skipped, one is expected to fail."""

import pytest
import sklearn
from sklearn.utils.estimator_checks import (
    check_param_validation,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)
from sklearn.utils.fixes import parse_version

from vae_anomaly import AutoencoderDetector, VAEDetector

# Checks fit several times each and ask about the interface: the quickest detector will do, and
# only the others train.
QUICK = {"max_steps": 1, "hidden_units": (), "latent_dim": 2, "validation_fraction": 0}
QUICK_VAE = VAEDetector(score_type="reconstruction_error", n_draws=1, **QUICK)
OTHERS = [
    VAEDetector(max_steps=5, hidden_units=(8,), latent_dim=2),
    AutoencoderDetector(**QUICK),
]
NEEDS_ARRAY_API = "check_array_api_input"
# Each tells of another part of the interface; the others are a second look.
TELLING = (
    "check_dataframe_column_names_consistency",
    "check_dict_unchanged",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_fit1d",
    "check_fit2d_1sample",
    "check_methods_sample_order_invariance",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_outliers_train",
    "check_parameters_default_constructible",
    "check_transformer_general",
)


def expected_failed_checks(estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is in a minibatch "
        "once, a row that is there twice may be in two, and among the held-out rows"
    }


def checks_of(estimators, is_wanted=lambda case: True):
    """Parametrize by checks; the one that scikit-learn skips unless a variable is set is below."""
    checks = parametrize_with_checks(estimators, expected_failed_checks=expected_failed_checks)
    name, cases = checks.args
    kept = [case for case in cases if NEEDS_ARRAY_API not in str(case) and is_wanted(case)]
    return pytest.mark.parametrize(name, kept, ids=checks.kwargs["ids"])


def is_telling(case):
    # That data which cannot be written to is left alone is a second look.
    text = str(case)
    return any(name in text for name in TELLING) and "readonly_memmap" not in text


@checks_of([QUICK_VAE], is_telling)
def test_scikit_learns_check(trainings, estimator, check):
    # A check that fails raises.
    check(estimator)
    assert not hasattr(estimator, "scorer_")


@pytest.mark.slow
@checks_of([QUICK_VAE], lambda case: not is_telling(case))
def test_scikit_learns_other_check(trainings, estimator, check):
    check(estimator)
    assert not hasattr(estimator, "scorer_")


@pytest.mark.slow
@checks_of(OTHERS)
def test_scikit_learns_check_of_other_detectors(estimator, check):
    check(estimator)
    assert not hasattr(estimator, "scorer_")


@pytest.mark.slow
@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="a check of 1.9"
)
def test_scikit_learns_check_of_the_array_api_standard(fresh_python):
    code = """
import os
os.environ["SCIPY_ARRAY_API"] = "1"
from sklearn.utils.estimator_checks import check_array_api_input
from vae_anomaly import VAEDetector
detector = VAEDetector(max_steps=2, hidden_units=(4,), latent_dim=2, random_state=0)
check_array_api_input(
    "VAEDetector", detector, array_namespace="numpy", expect_only_array_outputs=False
)
print("passed")
"""
    assert fresh_python(code).strip() == "passed"


@pytest.mark.parametrize(
    "detector",
    [QUICK_VAE, pytest.param(AutoencoderDetector(**QUICK), marks=pytest.mark.slow)],
    ids=["VAEDetector", "AutoencoderDetector"],
)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_transformer_get_feature_names_out_pandas]
)
def test_checks_that_scikit_learn_keeps_for_its_own_estimators(detector, check):
    check(type(detector).__name__, detector)
