"""The dialect of a text file is found from its first bytes."""

import csv
import io
import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from table_files import read_text

from vae_anomaly.tables.dialect import Dialect, is_value
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.finding_dialect import find_dialect
from vae_anomaly.tables.inspecting import file_schema

CORPUS = sorted((Path(__file__).parent / "tables").glob("*.json"))


def found(text, **options):
    return find_dialect(text.encode(), **options)


def head(text):
    return read_text(text.encode())[1:]


@pytest.mark.parametrize("answers", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_read_as_its_answers_say(answers):
    expected = json.loads(answers.read_text(encoding="utf-8"))
    content = answers.with_name(expected["file"]).read_bytes()
    dialect, names, units, rows = read_text(content, **expected.get("options", {}))
    assert dialect == Dialect(**expected["dialect"])
    assert names == list(expected["columns"])
    assert {len(row) for row in rows} == {len(names)}
    assert len(rows) == 40
    assert [unit for unit in units if unit not in ("", "-")] == [
        column["unit"] for column in expected["columns"].values() if "unit" in column
    ]


@pytest.mark.parametrize("answers", CORPUS, ids=lambda path: path.stem)
def test_the_first_half_of_a_file_has_the_dialect_of_the_whole(answers):
    expected = json.loads(answers.read_text(encoding="utf-8"))
    content = answers.with_name(expected["file"]).read_bytes()
    half = content[: len(content) // 4 * 2]
    assert find_dialect(half, whole=False, overrides=expected.get("options")) == Dialect(
        **expected["dialect"]
    )


def test_another_encoding_is_an_error_that_names_the_likeliest():
    content = (CORPUS[0].parent / "windows_1252.csv").read_bytes()
    with pytest.raises(TableError, match=r"new\.csv.*--encoding.*cp1252"):
        find_dialect(content, path="new.csv")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1250", ("Łódź", "Kraków", "Gdańsk")),
        ("cp1251", ("Москва", "Казань", "Томск")),
        ("cp1252", ("Málaga", "Coruña", "León")),
        ("cp1253", ("Αθήνα", "Πάτρα")),
        ("gb18030", ("北京", "上海", "广州")),
        ("shift_jis", ("東京", "大阪", "京都")),
        ("utf-16-le", ("Bern", "Genf")),
        ("utf-16-be", ("Bern", "Genf")),
    ],
)
def test_the_likeliest_encoding_is_the_right_one(encoding, words):
    text = "x,place\n" + "".join(f"{i * 0.37:.2f},{words[i % len(words)]}\n" for i in range(40))
    with pytest.raises(TableError, match=f"likely {encoding}"):
        find_dialect(text.encode(encoding))


def test_a_damaged_line_is_a_bad_row_and_no_other_encoding():
    content = b"a,b\n" + b"1,x\n" * 30 + b"2,\xff\n" + b"1,y\n" * 9
    assert find_dialect(content) == Dialect()


def test_what_the_caller_knows_wins():
    text = "a;b\n1;2\n"
    assert found(text, overrides={"delimiter": ","}).delimiter == ","
    assert found(text, overrides={"header": "none"}).header == "none"
    assert found("x\n" + text, overrides={"skip_lines": 1}) == Dialect(delimiter=";", skip_lines=1)
    assert found("~ note\n" + text, overrides={"comment": "~"}).comment == "~"


@pytest.mark.parametrize("text", ["", "\n", "a,b\n", "x\n1\n2\n"])
def test_small_files_have_the_usual_dialect(text):
    assert found(text) == Dialect()


def test_the_header_may_be_in_the_last_comment():
    assert head("# by station 7\n# time value\n1 2\n3 4\n") == (
        ["time", "value"],
        [],
        [["1", "2"], ["3", "4"]],
    )


def test_a_number_sign_may_be_the_name_of_a_column():
    assert head("#,Name,HP\n1,a,45\n2,b,60\n")[0] == ["#", "Name", "HP"]


def test_a_column_without_a_name_is_called_as_pandas_does():
    assert head(",a\n0,1.5\n1,2.5\n")[0] == ["Unnamed: 0", "a"]


@pytest.mark.parametrize("names", ["0,1,2", "1,2,3", "2019,2020,2021", "id,0,1"])
def test_names_that_count_columns_are_names(names):
    assert head(f"{names}\n5.5,2.5,1.25\n6.5,3.5,1.5\n")[0] == names.split(",")


@pytest.mark.parametrize("first", ["5,3,4", "7,4,9", "2,3,4", "5.1,3.5,1.4"])
def test_a_first_row_of_numbers_is_no_header(first):
    assert head(f"{first}\n5,2,1\n6,3,1\n")[0] == ["column_1", "column_2", "column_3"]


def test_columns_of_two_words_are_one_column():
    assert head("city\nNew York\nLos Angeles\nSan Jose\n")[0] == ["city"]


ROWS = [["a", "5.5", "x, y"], ["b", "6.5", "z"], ["c", "7.25", "x, y"]]


@pytest.mark.parametrize("delimiter", [",", ";", " "])
def test_rows_that_begin_with_names_of_their_own_have_a_column_for_them(delimiter):
    lines = [["speed", "note"], *ROWS]
    text = "".join(delimiter.join(f'"{cell}"' for cell in line) + "\n" for line in lines)
    assert head(text) == (["Unnamed: 0", "speed", "note"], [], ROWS)


def test_cells_that_repeat_are_no_names_of_rows():
    assert not found("speed,note\n" + "5,1.5,x\n" * 30).row_names
    assert found("speed,note\n" + "".join(f"{i},1.5,x\n" for i in range(30))).row_names


@pytest.mark.parametrize("spaces", [" ", "   "])
def test_spaces_between_a_delimiter_and_quotes_are_no_text(spaces):
    lines = [f'"name",{spaces}"speed",{spaces}"note"']
    lines += [f'{name},{spaces}{speed},{spaces}"{note}"' for name, speed, note in ROWS]
    assert head("\n".join(lines)) == (["name", "speed", "note"], [], ROWS)
    plain = "\n".join([*lines, *(f"d,{spaces}{index}.5,{spaces}z" for index in range(90))])
    assert head(plain)[2][-1] == ["d", "89.5", "z"]


def test_quotes_in_cells_and_cells_of_several_lines_do_not_hide_whether_spaces_are_text():
    lines = [f'{index}, "x\n{index % 3}"' for index in range(30)]
    assert head("\n".join(["a, b", *lines]))[2][0] == ["0", "x\n0"]
    starred = "\n".join(lines).replace('"', "*").encode()
    assert find_dialect(starred, overrides={"quotechar": "*"}).spaced
    names = [f'"Smith, ""Bob""", {index}' for index in range(30)]
    assert head("\n".join(["name,age", *names]))[2][0] == ['Smith, "Bob"', " 0"]


@pytest.mark.parametrize("above", ["Client:,ACME\nDate:,2024-01-31\n\n", "Client:,ACME\n"])
def test_what_is_said_of_a_table_above_it_is_no_header(above):
    rows = "".join(f"{index},{index / 2},x\n" for index in range(30))
    assert head(f"{above}a,b,c\n{rows}")[0] == ["a", "b", "c"]


@pytest.mark.parametrize("n_facts", [1, 30])
def test_any_number_of_facts_may_be_above_names(n_facts):
    facts = "".join(f"fact {index}:,{index}\n" for index in range(n_facts))
    rows = "".join(f"{index},{index / 2},x\n" for index in range(90))
    assert head(f"{facts}a,b,c\n{rows}")[0] == ["a", "b", "c"]


@pytest.mark.parametrize("n_wider", [30, 300])
@pytest.mark.parametrize("n_rows", [3, 30])
def test_rows_before_a_column_was_added_are_no_lines_above_the_table(n_rows, n_wider):
    rows = "".join(f"{index},{index / 2}\n" for index in range(n_rows))
    wider = "".join(f"{index},{index / 2},x\n" for index in range(n_wider))
    dialect = found(f"a,b\n{rows}{wider}")
    assert (dialect.skip_lines, dialect.header, dialect.row_names) == (0, "row", False)


def test_empty_names_above_no_cells_are_none():
    assert head("a,b,,\n5.5,1\n6.5,2\n") == (["a", "b"], [], [["5.5", "1"], ["6.5", "2"]])


def test_arff_is_read_as_rows_without_names():
    above = "@RELATION r\n@ATTRIBUTE x NUMERIC\n@ATTRIBUTE kind {a, b}\n@DATA\n"
    assert head(f"{above}5.5,a\n6.5,b\n7.5,b\n")[0] == ["column_1", "column_2"]
    for names in (["@timestamp", "@version"], ["@input", "@output"], ["@relation", "@data"]):
        assert head(f"{','.join(names)}\n5.5,a\n6.5,b\n")[0] == names


@pytest.mark.parametrize("name", ["Parquet", "gzip", "JSON", "archive", "web page"])
def test_another_format_than_text_is_named(name, tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5]})
    path = tmp_path / "t.csv"
    if name == "Parquet":
        frame.to_parquet(path)
    elif name in ("gzip", "archive"):
        frame.to_csv(path, compression={"archive": "zip"}.get(name, name))
    else:
        path.write_text(frame.to_json(orient="records") if name == "JSON" else " <HTML>\n")
    with pytest.raises(TableError, match=rf"t\.csv: expected a table of text, received .*{name}"):
        file_schema(path)


@pytest.mark.parametrize("mark", list(":^~"))
def test_an_unusual_delimiter_is_guessed_at(mark, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n5,x\n6,y\n".replace(",", mark))
    (note,) = (note for note in file_schema(path).notes if note.code == "one_column")
    assert f"--delimiter {shlex.quote(mark)}" in note.message
    assert list(file_schema(path, dialect={"delimiter": mark}).columns) == ["a", "b"]


@pytest.mark.parametrize("title", ["Report 2024\n\n", "Report\nof March\n"])
def test_a_title_of_one_cell_is_no_header_of_two_columns(title):
    text = f"{title}temp,load\n0.5,1\n1.5,2\n2.5,3\n"
    assert head(text) == (["temp", "load"], [], [["0.5", "1"], ["1.5", "2"], ["2.5", "3"]])


@pytest.mark.parametrize("end", ";,\t|")
def test_the_header_of_one_column_may_lack_the_delimiter_that_ends_rows(end):
    assert head(f"a\n1.5{end}\n2.5{end}\n") == (["a"], [], [["1.5"], ["2.5"]])


def test_text_below_a_header_is_no_unit():
    assert head("city,x\nBern,oops\nGenf,2\nBasel,3\n")[1] == []
    assert head("city,x\n-,[km]\nGenf,2\nBasel,3\n")[1] == ["-", "[km]"]


@pytest.mark.parametrize("cell", ["5", "-0,5", "$1,234.50", "2024-01-31", "07:30", "28%", "(5)"])
def test_values_are_no_names(cell):
    assert is_value(cell)


@pytest.mark.parametrize("cell", ["size", "Q1", "", "x2", "2nd floor of the house"])
def test_names_are_no_values(cell):
    assert not is_value(cell)


CELLS = {
    "number": st.floats(-1e6, 1e6).map(lambda x: f"{x:.3f}"),
    "decimal comma": st.floats(-1e6, 1e6).map(lambda x: f"{x:.3f}".replace(".", ",")),
    "date": st.dates().map(str),
    "text": st.text("abc ,;|\t\"'", max_size=9).map(lambda text: f"z{text}"),
}


@given(st.data(), st.sampled_from(",;\t|"), st.lists(st.sampled_from(list(CELLS)), min_size=2))
def test_a_table_written_with_a_delimiter_is_read_with_it(data, delimiter, kinds):
    kinds = kinds[:6]
    assume(not set(kinds) <= {"text"})
    rows = data.draw(st.lists(st.tuples(*[CELLS[kind] for kind in kinds]), min_size=5, max_size=15))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([[f"name {i}" for i in range(len(kinds))], *rows])
    names, units, cells = head(text.getvalue())
    assert names == [f"name {i}" for i in range(len(kinds))]
    assert units == []
    assert cells == [list(row) for row in rows]


@pytest.mark.parametrize("unit", ["1/min", "1/s", "1 / cm", "m3/h", "°C", "kg/m2"])
def test_units_below_the_names_are_no_row(unit):
    names, units, cells = head(f"t;speed;note\n;{unit};\n1;1506,3;\n2;1490,1;\n3;1501,0;\n")
    assert names == ["t", "speed", "note"]
    assert units == ["", unit, ""]
    assert len(cells) == 3
