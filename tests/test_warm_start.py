"""A detector that goes on from an earlier fit, with new rows."""

import copy

import numpy as np
import pytest
from test_cli import assert_one_line_error, run
from test_fit_files import (
    SMALL,
    assert_learned_alike,
    message_of,
    orders,
    parts_of,
    weights_of,
    write,
)

from vae_anomaly import AutoencoderDetector, TableFiles, VAEDetector, load_detector
from vae_anomaly.detectors.table_input import TableInput
from vae_anomaly.tables.continuing import continued
from vae_anomaly.tables.preprocessing import TablePreprocessor

WITHOUT_SCORES = {name: value for name, value in SMALL.items() if name != "score_type"}


def with_new_levels(seed=1):
    """Rows of the month after: two more cities, and larger amounts."""
    frame = orders(200, seed)
    frame.loc[::5, "city"] = "Alta"
    frame.loc[1::9, "city"] = "Bodø"
    frame["amount"] += 1000
    return frame


@pytest.fixture(scope="module")
def first(leave_out_training):
    with pytest.MonkeyPatch.context() as patch:
        leave_out_training(patch)
        return VAEDetector(**SMALL, warm_start=True).fit(orders())


def copied(detector):
    return copy.deepcopy(detector)


def learned(detector, X):
    """What a fit goes on with, before a model is built."""
    chosen = TableInput()
    arrays, _ = chosen.learn(detector, X, 5, None)
    return chosen, arrays


@pytest.mark.slow
def test_networks_grow_by_new_levels_which_start_as_unknown_ones(first, trainings):
    """No step of training: what the grown networks say is what the earlier ones say."""
    new = with_new_levels()
    later = copied(first).fit(new)
    before, after = first.scorer_, later.scorer_
    known = before.preprocessor.levels["city"]
    assert after.preprocessor.levels["city"] == [*known, "Alta", "Bodø"]
    assert sum(after.preprocessor.column_widths) == sum(before.preprocessor.column_widths) + 2

    old = first._input.check(first, orders())
    np.testing.assert_allclose(after.latent(old), before.latent(old), rtol=1e-5, atol=1e-6)
    rows = later._input.check(later, new)
    np.testing.assert_allclose(after.latent(rows), before.latent(rows), rtol=1e-5, atol=1e-6)
    assert after.n_calibration == 20 and later.offset_ != first.offset_  # by the new rows
    # The decoder shares what it gave to unknown values among them and the new levels.
    first_place = np.cumsum([0, *before.preprocessor.column_widths])[
        before.preprocessor.column_names.index("city")
    ]
    was, now = (
        scorer.model.decoder(np.zeros((1, scorer.model.latent_dim), "float32")).numpy()[0]
        for scorer in (before, after)
    )
    n_more_outputs = before.model.likelihood.n_outputs - before.model.likelihood.n_features
    place = first_place + n_more_outputs
    width = 1 + len(known)
    np.testing.assert_array_equal(now[place : place + width], was[place : place + width])
    np.testing.assert_array_equal(now[place + width : place + width + 2], [was[place]] * 2)
    np.testing.assert_array_equal(now[place + width + 2 :], was[place + width :])


def test_scales_stay_and_ranges_grow(first):
    later, _ = learned(first, with_new_levels())
    before, after = first.scorer_.preprocessor, later.preprocessor
    for kept, own in zip(before.numbers.weights, after.numbers.weights, strict=True):
        np.testing.assert_array_equal(own, kept)
    place = before.measured.index("amount")
    assert after.bounds[place, 0] == before.bounds[place, 0]
    assert after.bounds[place, 1] > 1000 > before.bounds[place, 1]
    assert later.schema == first._input.schema
    n_rows = next(sum(p.counts) for p in after.profiles if p.column == "count")
    assert n_rows == 200  # batches are compared with the new rows


@pytest.mark.slow
def test_training_starts_from_the_weights_that_were_there(first, trainings):
    kernel = first.scorer_.model.decoder.get_weights()[0]
    copied(first).fit(orders(200, seed=1))
    np.testing.assert_array_equal(trainings[-1]["model"].decoder.get_weights()[0], kernel)
    copied(first).set_params(warm_start=False, random_state=1).fit(orders(200, seed=1))
    assert not np.allclose(trainings[-1]["model"].decoder.get_weights()[0], kernel)


def test_steps_are_fewer_by_default(first):
    later, _ = learned(first, orders(200, seed=1))
    anew, _ = learned(VAEDetector(**SMALL, warm_start=True), orders(200, seed=1))
    assert later.training_defaults(200)["max_steps"] == 1500
    assert anew.training_defaults(200)["max_steps"] == 6000


def assert_equal_weights(one, other):
    weights, others = weights_of(one), weights_of(other)
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, others[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("detector_class", [VAEDetector, AutoencoderDetector])
def test_a_saved_detector_goes_on_with_files(detector_class, trainings, tmp_path):
    params = SMALL if detector_class is VAEDetector else WITHOUT_SCORES
    detector_class(**params).fit(orders()).save(tmp_path / "m")
    new = with_new_levels()
    later = load_detector(tmp_path / "m").set_params(warm_start=True)
    later.fit(TableFiles(write(new, tmp_path / "in", "csv", ends=(90,))))
    assert_equal_weights(later, load_detector(tmp_path / "m").set_params(warm_start=True).fit(new))
    later.save(tmp_path / "m")
    again = load_detector(tmp_path / "m")
    assert_equal_weights(again, later)
    assert again.reconstruct(new)["city"].isin(["Alta", "Bodø", "Bergen", "Oslo", "Tromsø"]).all()


def test_a_once_only_stream_needs_no_schema_then(first):
    new = with_new_levels()
    assert_learned_alike(learned(first, iter(parts_of(new))), learned(first, new))


def test_what_does_not_fit_the_earlier_fit_is_refused(first):
    new = orders(50)
    for params, words in (
        ({"hidden_units": (5,)}, "`hidden_units` as in the fit to go on from, [4]"),
        ({"latent_dim": 3}, "`latent_dim` as in the fit to go on from, 2"),
        ({"normal_scores": False}, "`normal_scores` as in the fit to go on from, True"),
        ({"kinds": {"count": "categorical"}}, "'count' as 'categorical', which was 'numeric'"),
    ):
        detector = copied(first).set_params(**params)
        assert words in message_of(lambda detector=detector: detector.fit(new))
    other = copied(first).set_params(encoder=copied(first).scorer_.model.encoder)
    assert "Expected the `encoder` of the fit to go on from" in message_of(lambda: other.fit(new))
    assert "Missing: 'city'" in message_of(lambda: copied(first).fit(new.drop(columns="city")))
    numbers = np.random.default_rng(0).normal(size=(30, 3))
    assert "Expected the columns" in message_of(
        lambda: copied(first).set_params(kinds=None).fit(numbers)
    )


def test_it_is_for_tables_only(digits):
    message = message_of(lambda: AutoencoderDetector(warm_start=True).fit(digits))
    assert "Expected `warm_start` for tables only" in message


def test_a_column_that_was_empty_gets_the_range_of_the_new_rows():
    kinds = {"a": "numeric", "b": "categorical"}
    before = TablePreprocessor(kinds)
    empty, texts = np.full(3, np.nan), np.array(["x", "x", "y"], dtype=object)
    before.adapt({"a": empty, "b": texts})
    options = {"max_levels": 50, "takes_levels": True}
    after = continued(before, {"a": np.array([4.0, 6.0, 5.0]), "b": texts}, **options)
    assert after.bounds.numpy().tolist() == [[4.0, 6.0]]
    again = continued(after, {"a": empty, "b": texts}, **options)
    assert again.bounds.numpy().tolist() == [[4.0, 6.0]]


# The command line


@pytest.fixture
def model(first, tmp_path):
    first.save(tmp_path / "m")
    return tmp_path / "m"


def test_fit_from_a_model_goes_on_with_new_files(model, trainings, tmp_path):
    folder = write(with_new_levels(), tmp_path / "in", "csv", ends=(90,))
    before = load_detector(model)
    result = run("fit", folder, "--from", model, "--model", model, "--max-steps", 9)
    assert result.exit_code == 0, result.output
    assert "new levels of 'city': Alta, Bodø" in result.stderr
    assert f"{model}: fitted on 200 rows of 6 columns, going on from {model};" in result.stderr
    assert trainings[-1]["max_steps"] == 9
    later = load_detector(model)
    assert later.get_params()["warm_start"] is False
    assert later.score_type == before.score_type
    assert later.scorer_.preprocessor.levels["city"][-2:] == ["Alta", "Bodø"]
    # The steps of this fit are not those of the next.
    assert run("fit", folder, "--from", model, "--model", model).exit_code == 0
    assert trainings[-1]["max_steps"] == 1500


def test_new_files_are_read_as_the_earlier_ones_were(trainings, tmp_path):
    rows = [f"{'blå' if n % 2 else 'grå'},{n / 7}\n".encode("cp1252") for n in range(60)]
    (tmp_path / "a.csv").write_bytes(b"".join(rows[:30]))
    (tmp_path / "b.csv").write_bytes(b"".join(rows[30:]))
    small = ("--score-type", "elbo", "--max-steps", "2", "--hidden-units", "4", "--quiet")
    given = ("--encoding", "cp1252", "--no-header")
    model = tmp_path / "m"
    for name, options in (("a.csv", (*small, *given)), ("b.csv", ("--from", model))):
        result = run("fit", tmp_path / name, *options, "--model", model)
        assert result.exit_code == 0, result.output
    assert load_detector(model).scorer_.preprocessor.levels["column_1"] == ["blå", "grå"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--hidden-units", "8"), ("--hidden-units", "--from")),
        (("--id", "count"), ("--id", "--from")),
        (("--backbone", "x"), ("--backbone",)),
    ],
)
def test_options_that_a_model_has_decided_are_refused(model, tmp_path, arguments, words):
    folder = write(orders(30), tmp_path / "in", "csv", ends=())
    result = run("fit", folder, "--from", model, "--model", model, *arguments)
    assert_one_line_error(result, *words)
