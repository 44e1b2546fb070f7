"""Files to score that have other lines above their rows than the training file."""

from types import SimpleNamespace

import pytest

from vae_anomaly.batch.tables import TableChunkScorer
from vae_anomaly.tables.inspecting import file_schema

ROWS = "".join(f"{i}.5,{7 * i % 10}.25,{'red' if i % 2 else 'blue'}\n" for i in range(40))
TITLE, NAMES, UNITS = "Report of March\n\n", "temp,load,colour\n", "°C,kW,-\n"


def counted(path, schema):
    """How many rows of a file are read, how many of them are bad, and the warnings."""
    options = dict.fromkeys(("threshold", "false_alarm_rate"))
    detector = SimpleNamespace(
        _input=SimpleNamespace(schema=schema), scorer_=SimpleNamespace(n_calibration=40)
    )
    scorer = TableChunkScorer([path], detector, exclude=(), **options, **TableChunkScorer.OPTIONS)
    (path,) = scorer.paths
    with scorer.reader(path) as reader:
        chunks = [chunk for chunk, _ in scorer.chunks(path, reader)]
    n_bad = sum(len(chunk.bad) for chunk in chunks)
    return sum(chunk.raw.num_rows for chunk in chunks) + n_bad, n_bad, scorer.warnings


LAYOUTS = [(title, units) for title in ("", TITLE) for units in ("", UNITS)]


@pytest.mark.parametrize("scored", LAYOUTS, ids=repr)
@pytest.mark.parametrize("trained", LAYOUTS, ids=repr)
def test_as_many_rows_are_read_as_are_written(csv, trained, scored):
    (title, units), other = trained, scored
    schema = file_schema(csv(title + NAMES + units + ROWS))
    path = csv(other[0] + NAMES + other[1] + ROWS, "april.csv")
    read, n_bad, warnings = counted(path, schema)
    is_told = other[1] > units and other[0] == title  # the line of units is a bad row
    assert (read - n_bad, n_bad) == (40, is_told)
    assert len(warnings) == (other != trained and not is_told), "; ".join(warnings)


@pytest.mark.parametrize("trained", ["", TITLE])
@pytest.mark.parametrize("scored", ["", TITLE])
def test_as_many_rows_are_read_as_are_written_without_names(csv, trained, scored):
    schema = file_schema(csv(trained + ROWS))
    read, n_bad, _ = counted(csv(scored + ROWS, "april.csv"), schema)
    assert read - n_bad == 40


@pytest.mark.parametrize("trained", LAYOUTS, ids=repr)
def test_a_single_row_is_read(csv, trained):
    schema = file_schema(csv(trained[0] + NAMES + trained[1] + ROWS))
    row = ROWS.splitlines()[0]
    for title, units in {trained, ("", "")}:
        assert counted(csv(title + NAMES + units + row, "april.csv"), schema)[:2] == (1, 0)


@pytest.mark.parametrize("units", ["°F,MW,-\n", "°C,1/min,-\n"])
def test_other_units_are_no_row(csv, units):
    schema = file_schema(csv(NAMES + "°C,1/min,-\n" + ROWS))
    assert counted(csv(NAMES + units + ROWS, "april.csv"), schema) == (40, 0, [])


@pytest.mark.parametrize("first", [",,red\n", "NA,?,red\n", "1.5,,red\n"])
def test_a_row_without_some_values_is_no_units_row(csv, first):
    schema = file_schema(csv(NAMES + UNITS + ROWS))
    assert counted(csv(NAMES + first + ROWS, "april.csv"), schema)[:2] == (41, 0)


@pytest.mark.parametrize("named", [True, False])
def test_files_with_and_without_names_of_rows_are_read_alike(csv, named):
    rows = "".join(f"row {i},{row}\n" for i, row in enumerate(ROWS.splitlines()))
    schema = file_schema(csv(NAMES + rows))
    assert schema.unmodelled == ["Unnamed: 0"]
    names = "name," * (not named) + NAMES
    assert counted(csv(names + rows, "april.csv"), schema)[:2] == (40, 0)
    assert counted(csv(NAMES + ROWS, "may.csv"), schema)[:2] == (40, 0)
