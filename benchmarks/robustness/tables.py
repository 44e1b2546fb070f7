"""Attack the readers of tables: mutated lines of CSV, flipped bits in Parquet.

    python benchmarks/robustness/tables.py                       # a minute
    python benchmarks/robustness/tables.py --csv-lines 100000 --parquet-files 20000

A case holds if nothing but a TableError of one line, which names the file, comes out; or if each
row of the file is read or put aside, once, as it was in the file. Cases are made from the seed and
their number alone, and are read in a process of their own, so that a crash or a case that takes
more than a minute is counted, and the rest goes on.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

import numpy as np

LINES = 200  # of each CSV file
ROWS = 60  # of each Parquet file: few, so that much of it tells how to read them
MOST_SECONDS = 60
KINDS = {
    "number": "numeric",
    "flag": "boolean",
    "when": "datetime",
    "city": "categorical",
    "took": "numeric",
    "note": "categorical",
}


def table(rng, n_rows):
    """A table of all kinds, with missing cells."""
    import pandas as pd

    notes = ["", "plain", "a, comma", 'a "quote"', "two\nlines", "é", " space "]
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows).round(4),
            "flag": pd.array(rng.random(n_rows) < 0.5, dtype="boolean"),
            "when": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.integers(0, 10**7, n_rows), "s"),
            "city": rng.choice(["Oslo", "Bergen", "Tromsø"], n_rows),
            "took": pd.to_timedelta(rng.integers(0, 10**6, n_rows), "s"),
            "note": rng.choice(notes, n_rows),
        }
    )
    for name in frame:
        frame.loc[rng.random(n_rows) < 0.05, name] = None
    return frame


def mutated(rng, line):
    """A line with one of the faults that files have, or that attackers think of."""
    place = int(rng.integers(0, len(line) + 1))
    end = min(len(line), place + int(rng.integers(1, 9)))
    odd = [b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b";", b"\t"]
    odd += [b"1e999", b"nan", b"2024-02-30", b"99999999 days", b"x" * 200_000, b"\xf0\x9f\x92\xa9"]
    way = rng.integers(0, 6)
    if way == 0:
        return line[:place] + odd[rng.integers(len(odd))] + line[place:]
    if way == 1:
        return line[:place] + line[end:]
    if way == 2:
        return (
            line[:place] + rng.integers(0, 256, end - place, dtype=np.uint8).tobytes() + line[end:]
        )
    if way == 3:
        return line[:place]
    if way == 4:
        return line + line
    return bytes(line[place:]) + line[:place]


def attack_csv(rng, folder):
    """Read a CSV file of which a part of the lines is mutated; say what became of its rows."""
    from vae_anomaly.tables import csv_rows

    # Small pieces, so that rows go over their ends.
    csv_rows._FIRST_BYTES, csv_rows._BLOCK_BYTES = 2 ** rng.integers(8, 17, 2)
    header, *lines = table(rng, LINES).to_csv(index=False).encode().splitlines(keepends=True)
    is_mutated = rng.random(len(lines)) < rng.choice([0.02, 0.3, 1.0])
    lines = [
        mutated(rng, line) if bad else line for bad, line in zip(is_mutated, lines, strict=True)
    ]
    path = folder / "attack.csv"
    path.write_bytes(header + b"".join(lines))

    def read():
        return accounted(path, b"".join(lines)) + converted(path)

    return {"tried": int(is_mutated.sum()), **outcome(path, read)}


def accounted(path, content):
    """Faults: text of rows read and put aside that is not, in its order, that of the file."""
    from vae_anomaly.tables.csv_rows import CsvRows
    from vae_anomaly.tables.dialect import Dialect

    rows, found = CsvRows(path, Dialect()), []
    for piece in rows.pieces(100):
        for index in range(piece.table.num_rows):
            text = piece.text(index)
            found.append((piece.block.lines[piece.first + index], text))
            cells = [column[index].as_py() for column in piece.table.columns]
            if next(csv.reader(io.StringIO(text, newline=""))) != cells:
                return [f"row {text!r} was read as {cells!r}"]
        # Said of the line with the bytes, which may be the second of its row.
        found += [(bad.line - broken_lines(bad.text), bad.text) for bad in piece.bad]
    rows.close()
    texts = "\n".join(text for _, text in sorted(found, key=lambda row: row[0]))
    if filled(texts) != filled(content.decode("utf-8", "surrogateescape")):
        return ["the rows read and put aside are not those of the file"]
    return []


def broken_lines(text):
    lines = io.StringIO(text, newline="").readlines()
    return next(
        (n for n, line in enumerate(lines) if any("\udc80" <= c <= "\udcff" for c in line)), 0
    )


def filled(text):
    """The lines that are not blank, whatever their ends."""
    return [line for line in io.StringIO(text, newline=None).read().split("\n") if line]


def converted(path):
    """Faults: rows that are lost where cells are converted; the numbers of rows as they are."""
    from vae_anomaly.tables.dialect import Dialect
    from vae_anomaly.tables.reader import TableReader
    from vae_anomaly.tables.schema import Schema

    with TableReader(path, dialect=Dialect()) as reader:
        chunks = list(reader.chunks(Schema.of_kinds(KINDS), chunk_rows=100, keep_bad=True))
    with TableReader(path, dialect=Dialect()) as reader:
        chunks_of_text = list(reader.chunks(Schema({}), chunk_rows=100, keep_bad=True))
    totals = [
        sum(chunk.raw.num_rows + len(chunk.bad) for chunk in some)
        for some in (chunks, chunks_of_text)
    ]
    lengths = {len(chunk.arrays[name]) - chunk.raw.num_rows for chunk in chunks for name in KINDS}
    read = sum(chunk.raw.num_rows for chunk in chunks)
    return [
        {"rows": totals[1], "read": read, "aside": totals[0] - read},
        *([f"{totals[1] - totals[0]} rows lost"] if totals[0] != totals[1] else []),
        *(["arrays and rows differ in length"] if lengths != {0} else []),
    ]


def attack_parquet(rng, folder):
    """Read a Parquet file with flipped bits; say what became of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "attack.parquet"
    frame = table(rng, ROWS)
    content = pa.Table.from_pandas(frame, preserve_index=bool(rng.integers(2)))
    content = (
        content.append_column("tags", pa.array([["a", "b"]] * ROWS))
        if rng.random() < 0.2
        else content
    )
    pq.write_table(
        content,
        path,
        compression=str(rng.choice(["none", "snappy", "zstd", "gzip"])),
        row_group_size=int(rng.choice([20, 33, ROWS])),
        store_schema=bool(rng.integers(2)),
        use_dictionary=bool(rng.integers(2)),
        write_page_checksum=bool(rng.integers(2)),
        data_page_version=str(rng.choice(["1.0", "2.0"])),
        write_statistics=bool(rng.integers(2)),
    )
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    if rng.random() < 0.05:
        data = data[: rng.integers(len(data))]
    else:
        for _ in range(rng.choice([1, 1, 1, 1, 4])):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data.tobytes())

    def read():
        (counts, *faults) = converted(path)
        if counts["rows"] != ROWS:
            faults.append(f"{ROWS - counts['rows']} rows lost")
        return [{**counts, "rows": ROWS}, *faults]

    return {"tried": 1, **outcome(path, read)}


def outcome(path, read):
    """What came of reading: counts, and what did not hold."""
    from vae_anomaly.tables.files import TableError

    counts = {"rows": 0, "read": 0, "aside": 0}
    try:
        found = read()
    except TableError as error:
        message = str(error)
        is_clear = message.startswith(str(path)) and "\n" not in message
        return {**counts, "refused": 1, "faults": [] if is_clear else [message]}
    except Exception as error:
        return {**counts, "refused": 0, "faults": [f"{type(error).__name__}: {error}"]}
    faults = [fault for fault in found if isinstance(fault, str)]
    for more in found:
        counts = more if isinstance(more, dict) else counts
    return {**counts, "refused": 0, "faults": faults}


ATTACKS = {"csv": attack_csv, "parquet": attack_parquet}


def run_cases(door, first, last, seed):
    """Run cases in this process; print what came of each as a line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        for case in range(first, last):
            rng = np.random.default_rng([seed, case, list(ATTACKS).index(door)])
            result = ATTACKS[door](rng, pathlib.Path(folder))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(json.dumps({"case": case, "mib": memory, **result}), flush=True)


def watched(door, n_cases, seed):
    """Yield what came of each case, whatever becomes of the process that runs it."""
    case = 0
    while case < n_cases:
        arguments = [sys.executable, __file__, "--cases", door, str(case), str(n_cases)]
        with subprocess.Popen(
            [*arguments, "--seed", str(seed)], stdout=subprocess.PIPE, text=True
        ) as process:
            while True:
                timer = threading.Timer(MOST_SECONDS, process.kill)
                timer.start()
                line = process.stdout.readline() if process.stdout else ""
                timer.cancel()
                if not line:
                    break
                yield json.loads(line)
                case += 1
        if case < n_cases:
            fault = f"the process ended with {process.returncode}"
            yield {"case": case, "tried": 1, "refused": 0, "faults": [fault]}
            case += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv-lines", type=int, default=5000, help="Mutated lines, about.")
    parser.add_argument("--parquet-files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cases", nargs=3, metavar=("DOOR", "FIRST", "LAST"), help="Run these here."
    )
    args = parser.parse_args()
    if args.cases:
        door, first, last = args.cases
        return run_cases(door, int(first), int(last), args.seed)
    # 44% of the lines of a file are mutated, on average.
    n_cases = {"csv": -(-args.csv_lines // int(0.44 * LINES)), "parquet": args.parquet_files}
    failed = 0
    for door, n in n_cases.items():
        started, faults, memory = time.monotonic(), [], 0
        totals: Counter[str] = Counter()
        for result in watched(door, n, args.seed):
            memory = max(memory, result.pop("mib", 0))
            found = result.pop("faults")
            faults += [f"case {result['case']}: {fault}" for fault in found]
            totals.update({**result, "files": 1, "held": int(not found)})
        what = "mutated lines" if door == "csv" else "files"
        lost = totals["rows"] - totals["read"] - totals["aside"]
        print(
            f"{door}: {totals['tried']} {what} tried in {totals['files']} files; "
            f"{totals['held']} files held, {totals['files'] - totals['held']} did not; "
            f"{totals['refused']} refused; of {totals['rows']} rows {totals['read']} read, "
            f"{totals['aside']} put aside, {lost} lost; "
            f"{memory} MiB at most, {time.monotonic() - started:.0f} s"
        )
        for fault in faults[:20]:
            print(f"  {fault[:300]}")
        failed += len(faults)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
