"""``score``: the command that scores files."""

import contextlib
import pathlib

import click

from vae_anomaly.batch import places
from vae_anomaly.batch import run as batch
from vae_anomaly.batch.progress import shown_progress
from vae_anomaly.batch.summary import summary_text
from vae_anomaly.cli.exits import reported, terminated_as_interrupted
from vae_anomaly.cli.reporting import report_again
from vae_anomaly.tables.files import STANDARD
from vae_anomaly.tables.reader import CHUNK_ROWS
from vae_anomaly.tensorflow_import import set_threads_per_operation

_TABLE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--model", "model", type=_FOLDER, required=True, help="Folder written by 'fit'.")
@click.option(
    "--output",
    required=True,
    metavar="OUT",
    help="File to write; a folder, or a name that ends in /, for a file per input; - for stdout.",
)
@click.option(
    "--format",
    type=click.Choice(["csv", "tsv", "parquet"]),
    help="Format of the output.  [default: by the suffix]",
)
@click.option("--columns", multiple=True, metavar="COLUMN", help="Write this column of the input.")
@click.option("--only-anomalies", is_flag=True, help="Write only the anomalies.")
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    help="Write only the N lowest-scoring rows of each output, lowest first.",
)
@click.option(
    "--explain",
    type=click.IntRange(1),
    metavar="N",
    help="Name the N columns that lowered the score of an anomaly most, and what was expected.",
)
@click.option(
    "--digits",
    type=click.IntRange(1, 15),
    metavar="N",
    help="Write the numbers that scoring adds to CSV with N significant digits.  [default: all; "
    "contributions with those of 32 bits]",
)
@click.option("--contributions", is_flag=True, help="Write what each column adds to the score.")
@click.option("--threshold", type=float, help="Scores below this are anomalies.")
@click.option("--false-alarm-rate", type=float, help="Share of new normal rows to flag.")
@click.option(
    "--fdr",
    type=float,
    help="Flag rows so that this share of them is normal at most, expected: the false-discovery "
    "rate. Reads the inputs twice.",
)
@click.option(
    "--on-bad-row",
    type=click.Choice(["quarantine", "fail"]),
    default="quarantine",
    show_default=True,
    help="What to do with a row that cannot be read.",
)
@click.option("--max-bad-rows", type=click.IntRange(0), help="Stop if more rows cannot be read.")
@click.option(
    "--quarantine",
    type=_TABLE,
    help="CSV file for the rows that cannot be read.  [default: OUT.quarantine.csv, one for each "
    "file of a folder; quarantine.csv for stdout]",
)
@click.option(
    "--report",
    "report_output",
    type=_TABLE,
    help="HTML file to write a report to; reads the inputs again. See 'vae-anomaly report'.",
)
@click.option("--summary", type=_TABLE, help="JSON file to write the summary to.")
@click.option("--resume", is_flag=True, help="Continue a run that did not finish.")
@click.option("--delimiter", help="Separator of CSV.  [default: as in training, or as found]")
@click.option("--encoding", help="Encoding of CSV.  [default: as in training, or as found]")
@click.option("--strict", is_flag=True, help="Refuse columns that the model does not know.")
@click.option(
    "--allow-missing",
    multiple=True,
    metavar="COLUMN",
    help="Count the column's cells as missing where the table lacks it.",
)
@click.option(
    "--chunk-rows",
    type=click.IntRange(1),
    default=CHUNK_ROWS,
    show_default=True,
    help="Rows to score at a time.",
)
@click.option(
    "--maps",
    type=_FOLDER,
    help="Folder for a PNG of each image written, which shows the image, what the model expects "
    "instead, and which pixels are less probable than usual (red, full at 10 nats), usual (white) "
    "or more probable (blue).",
)
@click.option("--quiet", is_flag=True, help="Show no progress and no summary.")
def score(
    inputs,
    model,
    output,
    on_bad_row,
    max_bad_rows,
    columns,
    allow_missing,
    report_output,
    quiet,
    **options,
):
    """Score each row of CSV, TSV (also .gz, .zst) and Parquet files, folders, patterns, - (stdin).

    The output has the columns of the input, then score (higher is more normal), decision
    (score - threshold), is_anomaly and p_value; with --explain, reasons; with --contributions,
    feature_log_prob for each modelled column.

    If MODEL is of images: score each image file, also of the sub-folders of folders. The output
    has the columns path, score, decision, is_anomaly and p_value.

    Exit codes: 0 done; 2 wrong use or input; 3 too many bad rows; 4 interrupted, the disk full or
    the like: run again with --resume; 130 interrupted where standard input or output is involved.
    """
    if on_bad_row == "fail" and max_bad_rows is not None:
        raise click.UsageError("Expected '--on-bad-row fail' or '--max-bad-rows'. Received both.")
    if not (options["resume"] or quiet) and places.work_folder(output).exists():
        click.echo(f"discarding the unfinished work in {places.work_folder(output)}", err=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reported(None if STANDARD in (*inputs, output) else output))
        stack.enter_context(terminated_as_interrupted())
        if report_output and (STANDARD in inputs or options["fdr"] is not None):
            raise ValueError("Expected files, and no --fdr, where --report is given.")
        set_threads_per_operation(batch.threads_per_operation(model))
        summary = batch.score_files(
            inputs,
            model,
            output,
            columns=columns or None,
            allow_missing=allow_missing or None,
            max_bad_rows=0 if on_bad_row == "fail" else max_bad_rows,
            progress=None if quiet else stack.enter_context(shown_progress()),
            **options,
        )
        if report_output:
            options["allow_missing"] = allow_missing or None
            report_again(inputs, model, report_output, options)
    if not quiet:
        for line in summary_text(summary):
            click.echo(line, err=True)
