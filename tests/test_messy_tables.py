"""Tables as people hand them over: one command with no option reads them right."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import vae_anomaly
from vae_anomaly import cli

KINDS = {
    "id": "id",
    "abfahrt": "datetime",
    "ankunft": "datetime",
    "strecke": "numeric",
    "preis": "numeric",
    "personen": "numeric",
    "zahlung": "categorical",
    "plz": "categorical",
    "kommentar": "text",
}
N_ROWS = 400
FAR_TOO_DEAR, BACK_IN_TIME = 100, 200


def german(number):
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def write_rides(path, start, *, seed, planted):
    """Rides with decimal commas, a title, a row of units, currency, ``?``, ids and codes."""
    rng = np.random.default_rng(seed)
    lines = ["Export der Fahrten", ";".join(KINDS), ";;;km;€;;;;"]
    for index in range(N_ROWS):
        begin = pd.Timestamp(start) + pd.Timedelta(minutes=20 * index)
        minutes = rng.gamma(3, 5)
        end = begin + pd.Timedelta(minutes=minutes)
        length = minutes * rng.normal(0.5, 0.05)
        price = 3 + 2 * length + rng.normal(0, 0.5)
        if planted and index == FAR_TOO_DEAR:
            price = 9999.0
        if planted and index == BACK_IN_TIME:
            end = begin - pd.Timedelta(days=7)
        cells = [
            f"R{seed}{index:05d}",
            begin.strftime("%d.%m.%Y %H:%M"),
            end.strftime("%d.%m.%Y %H:%M"),
            german(length),
            f"{german(price)} €",
            "?" if index % 50 == 3 else str(rng.integers(1, 5)),
            rng.choice(["Bar", "Karte", "App"]),
            f"0{rng.integers(1000, 1009)}",
            f"Fahrt Nummer {index} von {rng.integers(10**6)} gut",
        ]
        lines.append(";".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def rides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rides")
    write_rides(folder / "march.csv", "2024-03-01 08:00", seed=1, planted=True)
    write_rides(folder / "april.csv", "2024-04-01 08:00", seed=2, planted=False)
    return folder


def as_pandas_reads_it(path):
    return pd.read_csv(path, sep=";", skiprows=[0, 2], dtype=str)


def test_a_file_and_its_frame_are_inspected_alike(rides):
    of_file = vae_anomaly.inspect(rides / "march.csv")
    of_frame = vae_anomaly.inspect(as_pandas_reads_it(rides / "march.csv"))
    for schema in (of_file, of_frame):
        assert {name: column.kind for name, column in schema.columns.items()} == KINDS
        assert schema.columns["preis"].format_text == "1.234,5 €"
        assert schema.columns["abfahrt"].format_text == "%d.%m.%Y"
    assert of_file.columns["strecke"].unit == "km"
    assert of_file.columns["personen"].missing_share == pytest.approx(8 / N_ROWS)


def test_a_wrong_guess_is_visible(rides):
    notes = {note.column: note.message for note in vae_anomaly.inspect(rides / "march.csv").notes}
    assert "--categorical id" in notes["id"]
    assert "--numeric plz" in notes["plz"]


@pytest.mark.slow
def test_one_command_finds_what_was_planted_and_not_next_month(rides):
    def run(*arguments):
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output

    model = rides / "model"
    run("fit", rides / "march.csv", "--model", model, "--max-steps", 1000)
    run("score", rides / "march.csv", "--model", model, "--output", rides / "march-scored.csv")
    scores = pd.read_csv(rides / "march-scored.csv")["score"]
    assert {FAR_TOO_DEAR, BACK_IN_TIME} <= set(scores.nsmallest(4).index)
    run("score", rides / "april.csv", "--model", model, "--output", rides / "april-scored.csv")
    assert pd.read_csv(rides / "april-scored.csv")["is_anomaly"].mean() < 0.06
    frame = as_pandas_reads_it(rides / "march.csv")
    detector = vae_anomaly.load_detector(model)
    np.testing.assert_array_equal(detector.score_samples(frame), scores)
