"""The parameters of the detectors: what each does, and which are refused."""

import keras
import numpy as np
import pytest
from small_detectors import BOTH, SMALL

from vae_anomaly import AutoencoderDetector, VAEDetector
from vae_anomaly.detectors.sklearn_compat import InvalidParameterError


def dense_layers(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def hidden_activations(detector):
    model = detector.scorer_.model
    layers = [*dense_layers(model.encoder), *dense_layers(model.decoder)]
    return {layer.activation.__name__ for layer in layers if layer.name[:6] == "hidden"}


@pytest.fixture(scope="module")
def narrow(table):
    return table[["amount", "count", "city"]]


@pytest.fixture(scope="module")
def unusual(narrow):
    """A detector with no option of the network or its training at its default."""
    return VAEDetector(
        score_type="elbo",
        contamination=0.2,
        hidden_units=[6, 5],
        latent_dim=3,
        activation="tanh",
        variance="column",
        beta=0.5,
        kl_warmup_steps=20,
        n_draws=3,
        n_train_draws=4,
        max_steps=30,
        batch_size=32,
        learning_rate=1e-2,
        validation_fraction=0.25,
        patience=30,
        max_levels=2,
        normal_scores=False,
        kinds={"count": "categorical"},
        random_state=np.random.RandomState(0),
        verbose=0,
    ).fit(narrow)


def test_score_type_decides_what_is_computed(detectors, rows):
    scores = [detector.score_samples(rows) for detector in detectors.values()]
    for index, first in enumerate(scores):
        assert all((first != other).any() for other in scores[index + 1 :])


def test_hidden_units_are_the_layers_of_both_networks(unusual):
    model = unusual.scorer_.model
    assert [layer.units for layer in dense_layers(model.encoder)] == [6, 5, 3, 3]
    assert [layer.units for layer in dense_layers(model.decoder)][:2] == [5, 6]


def test_latent_dim_is_the_width_of_the_transform(unusual, narrow):
    assert unusual.transform(narrow).shape == (400, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector_class", "n_columns", "expected"),
    [
        (VAEDetector, 5, 5),
        (VAEDetector, 20, 16),
        (AutoencoderDetector, 5, 2),
        (AutoencoderDetector, 1, 1),
        (AutoencoderDetector, 40, 16),
    ],
)
def test_latent_dim_follows_from_the_columns(trainings, detector_class, n_columns, expected):
    X = np.random.default_rng(0).normal(size=(20, n_columns))
    assert detector_class(hidden_units=()).fit(X).transform(X).shape == (20, expected)


def test_activation_is_that_of_the_hidden_layers(unusual, detector):
    assert hidden_activations(unusual) == {"tanh"}
    assert hidden_activations(detector) == {"relu"}


def test_activation_may_be_a_function(trainings, rows):
    detector = VAEDetector(**SMALL, activation=keras.activations.silu).fit(rows)
    assert hidden_activations(detector) == {"silu"}
    assert np.isfinite(detector.score_samples(rows)).all()


@pytest.mark.parametrize(
    ("variance", "n_outputs", "n_weights"),
    [
        ("row", 8, 4),
        ("column", 4, 4),
        ("shared", 4, 1),
        (0.5, 4, 0),
        pytest.param(np.float32(2), 4, 0, marks=pytest.mark.slow),
    ],
)
def test_variance_decides_who_decides_the_variance(trainings, rows, variance, n_outputs, n_weights):
    detector = VAEDetector(**SMALL, variance=variance).fit(rows)
    model = detector.scorer_.model
    assert model.decoder.output_shape == (None, n_outputs)
    assert sum(np.size(weight) for weight in model.likelihood.weights) == n_weights
    assert np.isfinite(detector.score_samples(rows)).all()


def test_beta_weighs_the_divergence(unusual):
    history = {name: np.array(values) for name, values in unusual.history_.items()}
    np.testing.assert_allclose(
        history["val_loss"], 0.5 * history["val_kl"] - history["val_log_prob"], rtol=1e-4
    )


def test_the_weight_of_the_divergence_grows_over_kl_warmup_steps(unusual):
    history = {name: np.array(values) for name, values in unusual.history_.items()}
    weight = (history["loss"] + history["log_prob"]) / history["kl"]
    expected = 0.5 * np.minimum(1, history["step"] / 20)
    np.testing.assert_allclose(weight, expected, atol=0.01)


def test_n_draws_is_the_number_of_fixed_draws(unusual, detector):
    assert unusual.scorer_.noise.shape == (3, 3)
    assert detector.scorer_.noise.shape == (8, 4)


def test_n_train_draws_steadies_the_bound_of_training(unusual, detector, rows):
    assert unusual.scorer_.model.n_draws == 4
    assert detector.scorer_.model.n_draws == 1


def test_training_gets_its_options(trainings, rows):
    AutoencoderDetector(
        hidden_units=(),
        max_steps=np.int64(7),
        batch_size=3,
        learning_rate=1e-4,
        patience=5,
        verbose=1,
    ).fit(rows)
    (call,) = trainings
    expected = {
        "max_steps": 7,
        "batch_size": 3,
        "learning_rate": 1e-4,
        "patience": 5,
        "verbose": 1,
    }
    assert {name: call[name] for name in expected} == expected


def test_max_steps_is_the_length_of_training(unusual):
    assert unusual.history_["step"][-1] == 30


def test_validation_fraction_is_the_share_held_out(unusual, trainings, rows):
    assert unusual.history_["val_loss"]
    VAEDetector(**SMALL, validation_fraction=0.1).fit(rows)
    assert trainings[0]["is_validation"].sum() == 40


@pytest.mark.slow
def test_without_rows_held_out_all_rows_calibrate(rows):
    detector = VAEDetector(**SMALL, validation_fraction=0).fit(rows)
    assert set(detector.history_) == {"step", "loss", "log_prob", "kl"}
    scores = detector.score_samples(rows)
    np.testing.assert_array_equal(detector.scorer_.calibration_scores, np.sort(scores))
    assert detector.offset_ == np.sort(scores)[3]  # 4 / 401 <= 1% < 5 / 401


@pytest.mark.slow
def test_small_values_of_a_very_skewed_column_that_do_not_fit_the_others_are_found():
    rng = np.random.default_rng(0)
    size = rng.lognormal(sigma=2, size=1000)
    X = np.column_stack([size, np.log(size) + 0.1 * rng.normal(size=1000)])
    odd = np.column_stack([np.exp(rng.uniform(-5, -3, 20)), rng.normal(size=20)])
    detector = VAEDetector(max_steps=300, random_state=0).fit(X)
    scores = detector.score_samples(X)
    assert np.median(detector.score_samples(odd)) < np.quantile(scores, 0.05)


def test_max_levels_are_kept_and_other_values_count_as_unknown(unusual):
    levels = unusual.scorer_.preprocessor.levels
    assert levels["city"] == ["Bergen", "Oslo"]
    assert len(levels["count"]) == 2


def test_kinds_override_the_dtype(unusual, table_detector):
    assert unusual.scorer_.preprocessor.skewed == []
    assert table_detector.scorer_.preprocessor.skewed == ["amount"]
    assert unusual.scorer_.preprocessor.kinds["count"] == "categorical"
    assert table_detector.scorer_.preprocessor.kinds["count"] == "numeric"


def test_kinds_leave_columns_out_of_the_model(trainings, table):
    frame = table.assign(key=np.arange(400).astype(str))
    detector = VAEDetector(**SMALL, kinds={"key": "id", "day": "dropped"}).fit(frame)
    modelled = table.columns.drop("day")
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(table[modelled]), scores)
    np.testing.assert_array_equal(detector.score_samples(frame.assign(key="other")), scores)
    assert list(detector.reconstruct(frame)) == list(modelled)
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="Expected a DataFrame, as in fit"),
    ):
        detector.score_samples(np.zeros((2, 7)))


def test_kinds_need_a_frame(rows):
    with pytest.raises(ValueError, match="Expected a DataFrame where `kinds` is given"):
        VAEDetector(kinds={"x0": "categorical"}).fit(rows)


@pytest.mark.parametrize("share", [("unusual", 0.2), ("detector", "auto")], ids=["share", "auto"])
def test_contamination_decides_the_share_that_is_flagged(share, unusual, detector, narrow, rows):
    name, contamination = share
    fitted, X = {"unusual": (unusual, narrow), "detector": (detector, rows)}[name]
    assert fitted.contamination == contamination
    if contamination == "auto":
        # Of 40 calibration scores, for 2 / 41 is more than 1%.
        assert fitted.offset_ == fitted.scorer_.calibration_scores.numpy()[0]
    else:
        assert np.mean(fitted.predict(X) == -1) == contamination


@pytest.mark.slow
def test_the_autoencoder_takes_its_options(table):
    detector = AutoencoderDetector(
        contamination=0.1,
        hidden_units=(7,),
        latent_dim=3,
        activation="elu",
        max_steps=12,
        batch_size=50,
        learning_rate=1e-2,
        validation_fraction=0.5,
        patience=12,
        max_levels=1,
        normal_scores=False,
        kinds={"count": "categorical"},
        random_state=1,
        verbose=0,
    ).fit(table)
    encoder = dense_layers(detector.scorer_.model.encoder)
    assert [layer.units for layer in encoder] == [7, 3]
    assert encoder[0].activation.__name__ == "elu"
    assert np.mean(detector.predict(table) == -1) == 0.1
    assert detector.history_["step"][-1] == 12
    assert detector.scorer_.n_calibration == 200
    assert len(detector.scorer_.preprocessor.levels["count"]) == 1
    assert detector.scorer_.preprocessor.skewed == []
    assert (detector.score_samples(table) <= 0).all()


def test_silence_is_the_default(rows, capsys):
    AutoencoderDetector(hidden_units=(), max_steps=2).fit(rows)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_verbose_shows_progress_on_stderr(rows, capsys):
    AutoencoderDetector(hidden_units=(), max_steps=2, verbose=1).fit(rows)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2 steps" in err


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contamination", 0.0),
        ("contamination", 0.6),
        ("contamination", "some"),
        ("hidden_units", 128),
        ("latent_dim", 0),
        ("activation", 1),
        ("max_steps", 0),
        ("max_steps", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("validation_fraction", 1.0),
        ("validation_fraction", -0.1),
        ("patience", 0),
        ("max_levels", 0),
        ("normal_scores", "yes"),
        ("kinds", ["numeric"]),
        ("random_state", "seed"),
        ("verbose", "yes"),
    ],
)
def test_impossible_parameters_are_refused_by_name(detector_class, rows, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        detector_class(**{name: value}).fit(rows)


def test_a_variance_finer_than_the_tables_of_the_composite_score_is_refused(trainings, rows):
    with pytest.raises(ValueError, match="`variance` >= 0.001 for score_type='composite'"):
        VAEDetector(variance=1e-4).fit(rows)
    VAEDetector(variance=1e-4, **SMALL).fit(rows)


def test_reference_rows_are_refused_for_scores_that_compare_with_none(trainings, rows):
    with pytest.raises(ValueError, match="for whose views `n_reference` is"):
        VAEDetector(**SMALL, n_reference=0).fit(rows)
    VAEDetector(**SMALL, n_reference=np.int64(2000)).fit(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_type", "mse"),
        ("variance", 0.0),
        ("variance", "cell"),
        ("beta", -1.0),
        ("kl_warmup_steps", -1),
        ("n_draws", 0),
        ("n_train_draws", 0),
    ],
)
def test_impossible_parameters_of_the_vae_are_refused_by_name(rows, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        VAEDetector(**{name: value}).fit(rows)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hidden_units": (8, 0)}, r"hidden_units\[1\]"),
        ({"activation": "reelu"}, "reelu"),
    ],
)
def test_impossible_networks_are_refused_by_name(rows, kwargs, message):
    with pytest.raises(ValueError, match=message):
        VAEDetector(**kwargs).fit(rows)
