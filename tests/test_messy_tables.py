"""Tables as people hand them over: one command with no option reads them right."""

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import vae_anomaly
from vae_anomaly import cli
from vae_anomaly.tables.reader import read_arrays

N_ROWS = 400
FAR_TOO_DEAR, BACK_IN_TIME = 100, 200
MISSING = slice(3, None, 50)  # of the counts


def values(start, seed, planted):
    """Visits: the price follows the duration, the end and the payment follow the begin."""
    rng = np.random.default_rng(seed)
    begin = pd.date_range(start, periods=N_ROWS, freq="97min")
    minutes = rng.gamma(3, 5, N_ROWS).round() + 1
    length = (minutes * rng.normal(0.5, 0.05, N_ROWS)).round(2)
    price = (1000 + 200 * length + rng.normal(0, 50, N_ROWS)).round(2)
    count = rng.integers(1, 5, N_ROWS).astype(float)
    count[MISSING] = np.nan
    end = begin + pd.to_timedelta(minutes, unit="min")
    if planted:
        price[FAR_TOO_DEAR] = 999_999.5
        end = end.where(np.arange(N_ROWS) != BACK_IN_TIME, begin - pd.Timedelta(days=7))
    return {
        "begin": begin,
        "end": end,
        "paid": begin.normalize() + pd.to_timedelta(rng.integers(10, 30, N_ROWS), unit="D"),
        "length": length,
        "price": price,
        "change": rng.normal(0, 5, N_ROWS).round(1),
        "count": count,
        "people": rng.permutation(10**6)[:N_ROWS] + 1000.0,
        "member": rng.random(N_ROWS) < 0.3,
        "method": rng.choice(["cash", "card, chip", "app"], N_ROWS),
        "code": [f"0{code}" for code in rng.integers(1000, 1009, N_ROWS)],
        "key": [f"R{seed}{index:05d}" for index in range(N_ROWS)],
        "number": np.arange(N_ROWS) + 1,
        "remark": [f"visit no. {i} of {rng.integers(10**6)}, all well" for i in range(N_ROWS)],
    }


KINDS = {
    **dict.fromkeys(["begin", "end", "paid"], "datetime"),
    **dict.fromkeys(["length", "price", "change", "count", "people"], "numeric"),
    "member": "boolean",
    **dict.fromkeys(["method", "code"], "categorical"),
    **dict.fromkeys(["key", "number"], "id"),
    "remark": "text",
}


def marks(decimal, thousands):
    return str.maketrans({".": decimal, ",": thousands})


EUROPEAN, SWISS, SPACED = marks(",", "."), marks(".", "'"), marks(",", " ")


def dated(pattern):
    return lambda date: date.strftime(pattern)


def counted(value, missing="", form="{:.0f}"):
    return missing if np.isnan(value) else form.format(value)


@dataclass
class Spelling:
    """How a file spells the columns, and what is around them."""

    cells: dict  #: name of values to how one of them is spelled
    delimiter: str = ","
    encoding: str = "utf-8"
    above: str = ""
    units: dict = field(default_factory=dict)
    header: bool = True
    end: str = "\n"
    suffix: str = ".csv"

    def write(self, folder, name, columns):
        path = folder / f"{name}{self.suffix}"
        rows = [[self.quoted(name) for name in self.cells]] if self.header else []
        rows += [[self.units.get(name, "") for name in self.cells]] if self.units else []
        spelled = [map(spell, columns[name]) for name, spell in self.cells.items()]
        rows += [list(map(self.quoted, row)) for row in zip(*spelled, strict=True)]
        text = self.above + "".join(self.delimiter.join(row) + self.end for row in rows)
        path.write_bytes(text.encode(self.encoding))
        return path

    def quoted(self, cell):
        return f'"{cell}"' if self.delimiter.strip() and self.delimiter in cell else cell

    @property
    def columns(self):
        """Names of values by the names that the columns have."""
        if self.header:
            return {name: name for name in self.cells}
        return {f"column_{index}": name for index, name in enumerate(self.cells, 1)}


DAY_FIRST = dated("%d.%m.%Y %H:%M")
FILES = {
    "european": Spelling(
        {
            "key": str,
            "begin": DAY_FIRST,
            "end": DAY_FIRST,
            "length": lambda x: f"{x:,.2f}".translate(EUROPEAN),
            "price": lambda x: f"{x:,.2f} €".translate(EUROPEAN),
            "count": lambda x: counted(x, "?"),
            "method": str,
            "code": str,
            "remark": str,
        },
        delimiter=";",
        above="Export of the visits\n",
        units={"length": "km", "price": "€"},
    ),
    "excel": Spelling(
        {
            "number": str,
            "begin": dated("%d.%m.%Y %H:%M:%S"),
            "end": dated("%d.%m.%Y %H:%M:%S"),
            "length": lambda x: f"{x:.2f}".translate(EUROPEAN),
            "price": lambda x: f"€ {x:,.2f}".translate(EUROPEAN),
            "method": str,
        },
        delimiter="\t",
        encoding="utf-16",
        suffix=".txt",
        end="\r\n",
    ),
    "logger": Spelling(
        {
            "begin": dated("%m/%d/%Y %H:%M"),
            "end": dated("%m/%d/%Y %H:%M"),
            "length": "{:.2f} km".format,
            "price": "{:.2f}".format,
            "count": lambda x: counted(x, "-"),
        },
        above="# logger 12, firmware 3.1\n# place: roof\n",
    ),
    "headerless": Spelling(
        {
            "begin": str,
            "end": str,
            "length": "{:.2f}".format,
            "price": "{:.2f}".format,
            "count": lambda x: counted(x, "NA"),
            "method": str,
        },
        header=False,
        suffix=".data",
    ),
    "shop": Spelling(
        {
            "key": str,
            "begin": dated("%b %d, %Y %H:%M"),
            "end": dated("%b %d, %Y %H:%M"),
            "price": "${:,.2f}".format,
            "length": "{:.2f}%".format,
            "people": lambda x: f"{x / 1000:.2f}k" if x < 9e5 else f"{x / 1e6:.4f}M",
            "count": lambda x: counted(x, "n/a", "{:,.0f}+"),
        },
        delimiter="|",
    ),
    "device": Spelling(
        {
            "begin": lambda date: f"{date.timestamp():.0f}",
            "end": lambda date: f"{date.timestamp():.0f}",
            "length": "{:.2f}".format,
            "price": "{:.2f}".format,
            "member": lambda x: str(x).lower(),
        },
        end=",\n",
    ),
    "fixed": Spelling(
        {
            "paid": dated("%Y%m%d"),
            "begin": dated("%Y-%m-%dT%H:%M"),
            "end": dated("%Y-%m-%dT%H:%M"),
            "length": "{:12.2f}".format,
            "price": "{:14.2f}".format,
            "count": lambda x: counted(x, "."),
        },
        delimiter="  ",
        suffix=".dat",
    ),
    "invoices": Spelling(
        {
            "key": str,
            "begin": str,
            "end": str,
            "paid": dated("%Y-%m-%d"),
            "price": lambda x: f"CHF {x:,.2f}".translate(SWISS),
            "length": "{:.2f}".format,
            "change": "{:+.1f}%".format,
        },
    ),
    "names of months": Spelling(
        {
            "begin": dated("%d-%b-%y %H:%M"),
            "end": dated("%d-%b-%y %H:%M"),
            "paid": dated("%d-%b-%y"),
            "length": "{:.2f}".format,
            "price": "{:,.2f}".format,
            "method": str,
            "count": lambda x: counted(x, "none"),
        },
        end="\r\n",
    ),
    "milliseconds": Spelling(
        {
            "number": str,
            "begin": lambda date: f"{date.timestamp() * 1000:.0f}",
            "end": lambda date: f"{date.timestamp() * 1000:.0f}",
            "price": "{:.2f}".format,
            "length": "{:.2f}".format,
            "member": str,
            "people": "{:.0f}".format,
            "code": str,
        },
    ),
    "french": Spelling(
        {
            "key": str,
            "begin": dated("%d/%m/%Y %H:%M"),
            "end": dated("%d/%m/%Y %H:%M"),
            "price": lambda x: f"{x:,.2f} €".translate(SPACED),
            "length": lambda x: f"{x:.2f}".translate(EUROPEAN),
            "code": str,
        },
        delimiter=";",
        above="Relevé des visites;;;;;\n\n",
        units={"length": "[km]"},
        encoding="utf-8-sig",
    ),
    "american": Spelling(
        {
            "number": str,
            "begin": dated("%m/%d/%Y %I:%M %p"),
            "end": dated("%m/%d/%Y %I:%M %p"),
            "price": "$ {:,.2f}".format,
            "change": lambda x: f"({-x:.1f})" if x < 0 else f"{x:.1f}",
            "length": "{:.2f} mi".format,
            "method": str,
        },
        suffix=".tsv",
        delimiter="\t",
    ),
    "unix": Spelling(
        {
            "begin": dated("%a %b %d %H:%M:%S %Y"),
            "end": dated("%a %b %d %H:%M:%S %Y"),
            "length": "{:.2f}".format,
            "price": "{:.2f}".format,
            "method": str,
            "count": lambda x: counted(x, "NULL"),
        },
        delimiter="\t",
        suffix=".txt",
    ),
    "zoned": Spelling(
        {
            "key": str,
            "begin": dated("%Y-%m-%dT%H:%M:%SZ"),
            "end": dated("%Y-%m-%dT%H:%M:%S+00:00"),
            "length": "{:.2f} m3".format,
            "price": "{:,.2f} USD".format,
            "count": lambda x: counted(x, "--"),
            "remark": str,
        },
        above="Visits\nwritten by hand\n\n",
    ),
    "sensor": Spelling(
        {
            "begin": dated("%Y/%m/%d %H:%M"),
            "end": dated("%Y/%m/%d %H:%M"),
            "length": "{:.2f}".format,
            "price": "{:.4e}".format,
            "count": lambda x: counted(x, "nan"),
            "member": lambda x: "TRUE" if x else "FALSE",
        },
        above="% a table of visits\n",
        delimiter=";",
        units={"length": "m/s", "price": "W"},
    ),
}
every_file = pytest.mark.parametrize("name", FILES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messy")
    months = {"march": values("2024-03-01 08:00", 1, True), "april": values("2024-04-01", 2, False)}
    for name, spelling in FILES.items():
        (folder / name).mkdir()
        for month, columns in months.items():
            spelling.write(folder / name, month, columns)
    return folder


def file_of(folder, name, month):
    return folder / name / f"{month}{FILES[name].suffix}"


def run(*arguments):
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@every_file
def test_every_column_is_what_it_is(folder, name):
    schema = vae_anomaly.inspect(file_of(folder, name, "march"))
    found = {column: described.kind for column, described in schema.columns.items()}
    assert found == {column: KINDS[value] for column, value in FILES[name].columns.items()}
    told = {note.column: note.message for note in schema.notes if note.column}
    for column, kind in found.items():
        if kind in ("id", "text"):  # a wrong guess can be seen, and put right
            assert column in told[column] and "--" in told[column]


@every_file
def test_every_cell_is_read_as_what_it_says(folder, name):
    path = file_of(folder, name, "april")
    schema = vae_anomaly.inspect(file_of(folder, name, "march"))
    arrays = read_arrays(path, schema, dialect=schema.dialect)
    expected = values("2024-04-01", 2, False)
    for column, array in arrays.items():
        value = FILES[name].columns[column]
        if schema.kinds[column] == "datetime":
            seconds = pd.DatetimeIndex(expected[value]).as_unit("s").asi8
            np.testing.assert_array_equal(array, seconds)
        elif schema.kinds[column] == "categorical":
            assert array.tolist() == list(expected[value])
        else:
            digits = 5e-3 if name == "shop" else 1e-4  # 1.23k, and 1.2346e+03
            np.testing.assert_allclose(array, np.asarray(expected[value], float), rtol=digits)


@every_file
def test_the_columns_and_their_formats_are_shown(folder, name):
    path = file_of(folder, name, "march")
    output = run("inspect", path, "--output", folder / f"{name}.json")
    described = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    for column, found in described["columns"].items():
        assert column in output and found["kind"] in output


@pytest.mark.slow
@pytest.mark.usefixtures("cross_fitting")
@every_file
def test_one_command_finds_what_was_planted_and_not_next_month(folder, name):
    march, april = (file_of(folder, name, month) for month in ("march", "april"))
    model, scored = folder / name / "model", folder / name / "scored.csv"
    run("fit", march, "--model", model, "--max-steps", 1000, "--quiet")
    run(
        "score",
        march,
        "--model",
        model,
        "--output",
        scored,
        "--columns",
        next(iter(FILES[name].columns)),
    )
    scores = pd.read_csv(scored)["score"]
    assert {FAR_TOO_DEAR, BACK_IN_TIME} <= set(scores.nsmallest(4).index)
    run(
        "score",
        april,
        "--model",
        model,
        "--output",
        scored,
        "--columns",
        next(iter(FILES[name].columns)),
    )
    assert pd.read_csv(scored)["is_anomaly"].mean() < 0.06


def test_a_file_and_its_frame_are_read_alike(folder):
    path = file_of(folder, "european", "march")
    frame = pd.read_csv(path, sep=";", skiprows=[0, 2], dtype=str)
    of_file, of_frame = vae_anomaly.inspect(path), vae_anomaly.inspect(frame)
    assert of_frame.kinds == of_file.kinds
    for column in of_file.kinds:
        assert of_frame.columns[column].format_text == of_file.columns[column].format_text
    assert of_file.columns["length"].unit == "km"
    assert of_file.columns["count"].missing_share == pytest.approx(8 / N_ROWS)
