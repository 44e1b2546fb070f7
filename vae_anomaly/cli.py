"""The command line: thin commands over the detector, the artifact and the files.

TensorFlow is imported only once a command has checked all that can be checked without it.
"""

import contextlib
import importlib
import pathlib

import click

import vae_anomaly
from vae_anomaly.atomic import atomic_file
from vae_anomaly.batch import places
from vae_anomaly.batch import run as batch
from vae_anomaly.batch.progress import shown_progress
from vae_anomaly.batch.summary import summary_text
from vae_anomaly.detectors import artifact
from vae_anomaly.exits import reported, terminated_as_interrupted
from vae_anomaly.fit_files import FIT, FIT_OPTIONS, SCHEMA_OPTIONS, fit_params, table_schema
from vae_anomaly.model_info import print_model
from vae_anomaly.table_options import table_options
from vae_anomaly.tables.files import STANDARD
from vae_anomaly.tables.reader import CHUNK_ROWS
from vae_anomaly.tables.schema_text import print_schema
from vae_anomaly.tensorflow_import import import_tensorflow

_TABLE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)
# As scoring.tables.SCORE_TYPES, which cannot be imported without TensorFlow.
_SCORE_TYPES = [
    "composite",
    "reconstruction_probability",
    "importance_weighted",
    "elbo",
    "reconstruction_error",
]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vae_anomaly.__version__)
def main():
    """Find the unusual rows of a table, or unusual images, how unusual they are, and why."""


@main.command()
@click.argument("source", type=click.Path(path_type=pathlib.Path), metavar="TABLE|FOLDER")
@click.option("--model", "model", type=_FOLDER, required=True, help="Folder to write the model to.")
@click.option(
    "--contamination",
    default="auto",
    show_default=True,
    help="Share of the training rows to flag, or 'auto': about 1% of new normal rows.",
)
@click.option(
    "--score-type",
    type=click.Choice(_SCORE_TYPES),
    default="composite",
    show_default=True,
    help="Definition of the score.",
)
@click.option(
    "--hidden-units",
    default="128,128",
    show_default=True,
    help="Units of the encoder's layers, separated by commas; the decoder mirrors them.",
)
@click.option(
    "--latent-dim",
    type=int,
    help="Size of z.  [default: 16, 32 for images, or the number of features if less]",
)
@click.option(
    "--max-steps",
    type=int,
    help="Maximum number of training steps.  [default: 6000; 1500 for images, 4000 for small ones]",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
@table_options
@click.option(
    "--on-bad-row",
    type=click.Choice(["quarantine", "fail"]),
    default="quarantine",
    show_default=True,
    help="What to do with a row of the table that cannot be read.",
)
@click.option("--max-bad-rows", type=click.IntRange(0), help="Stop if more rows cannot be read.")
@click.option(
    "--quarantine",
    type=_TABLE,
    help="CSV file for the rows that cannot be read.  [default: MODEL.quarantine.csv]",
)
@click.option("--dry-run", is_flag=True, help="Show what the table is taken for; do not train.")
@click.option(
    "--image-size",
    metavar="HxW",
    help="Height and width in pixels to which images are resized.  [default: the most frequent "
    "size, shrunk to 64 pixels on the longer side]",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "grey", "rgb"]),
    default="auto",
    show_default=True,
    help="Color of images; 'auto' is grey if all files are grey.",
)
@click.option(
    "--resize",
    type=click.Choice(["stretch", "pad", "crop"]),
    default="stretch",
    show_default=True,
    help="Treatment of images of other proportions: 'pad' them with black, 'crop' two sides.",
)
@click.option("--quiet", is_flag=True, help="Show no column kinds and no progress.")
@click.pass_context
def fit(context, source, model, quiet, dry_run, **options):
    """Learn from a CSV, TSV or Parquet TABLE of mostly normal rows, or a FOLDER of images.

    How the table is written and what its columns are is decided once from the whole file, and
    shown before training starts; 'inspect' shows the same. The options that name a COLUMN
    override what was found and can be repeated.

    Images are the PNG, JPEG, BMP, GIF, TIFF and WebP files in FOLDER and its sub-folders. Files
    that cannot be read are named and left out.
    """
    name = "images" if source.is_dir() else "table"
    with reported():
        artifact.check_target(model)
        own = {option: options.pop(option) for option in FIT_OPTIONS[name]}
        _refuse_foreign(context, name)
        if dry_run:
            _show_schema(source, {name: own[name] for name in SCHEMA_OPTIONS})
            return
        if name == "table" and own["quarantine"] is None:
            own["quarantine"] = model.with_name(f"{model.name}.quarantine.csv")
        params = fit_params(quiet, options)
        detector, what = FIT[name](source, params, **own)
        detector.save(model)
    click.echo(f"{model}: fitted on {what}; {detector.threshold_report()}", err=True)


@main.command()
@click.argument("table", type=_TABLE)
@table_options
@click.option("--output", type=_TABLE, help="JSON file for what was found; fit --schema takes it.")
def inspect(table, output, **options):
    """Show what 'fit' would take a CSV, TSV or Parquet TABLE for, without training.

    For each column its kind and format, examples, how many values differ, how many cells are
    missing and what is done with it; and what is odd, with the way out.
    """
    with reported():
        schema = _show_schema(table, options)
        if output is not None:
            with atomic_file(output) as file:
                file.write(schema.to_json().encode())


def _show_schema(table, options):
    from rich.console import Console

    schema = table_schema(table, **options)
    print_schema(schema, Console(width=max(Console().width, 100)))
    return schema


def _refuse_foreign(context, name):
    """Raise ValueError if an option was given that only another kind of input takes."""
    titles = {"table": "a table", "images": "images"}
    kind_of = {option: kind for kind, own in FIT_OPTIONS.items() for option in own}
    for parameter in context.command.params:
        kind, option = kind_of.get(parameter.name, name), parameter.opts[0]
        source = context.get_parameter_source(parameter.name)
        if kind != name and source is click.core.ParameterSource.COMMANDLINE:
            raise ValueError(
                f"Expected {option} for {titles[kind]} only. Received: {option} for "
                f"{titles[name]}. Leave it out."
            )


@main.command()
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
@click.option("--contributions", is_flag=True, help="Write what each column adds to the score.")
@click.option("--threshold", type=float, help="Scores below this are anomalies.")
@click.option("--false-alarm-rate", type=float, help="Share of new normal rows to flag.")
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
    inputs, model, output, on_bad_row, max_bad_rows, columns, allow_missing, quiet, **options
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
        report = batch.score_files(
            inputs,
            model,
            output,
            columns=columns or None,
            allow_missing=allow_missing or None,
            max_bad_rows=0 if on_bad_row == "fail" else max_bad_rows,
            progress=None if quiet else stack.enter_context(shown_progress()),
            **options,
        )
    if not quiet:
        for line in summary_text(report):
            click.echo(line, err=True)


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 lets in whoever can reach this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="Port to listen at; 0 is any free one.",
)
@click.option(
    "--max-request-mib",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Largest request to read.",
)
@click.option(
    "--max-request-values",
    type=click.IntRange(1),
    default=2_000_000,
    show_default=True,
    help="Most commas, brackets and braces of a request.",
)
def serve(folder, host, port, max_request_mib, max_request_values):
    """Serve the SavedModels in FOLDER/NAME/<integer>, with TensorFlow Serving's REST API.

    A server for development: no password, no TLS. The newest version of each model is served; a
    newer one that appears takes over. Ctrl-C ends it when the requests under way are answered.
    """
    with reported(), terminated_as_interrupted(), contextlib.suppress(KeyboardInterrupt):
        server = _server()
        server.check_folder(folder)
        with server.listen(host, port) as listener:
            import_tensorflow()
            server.serve(
                folder,
                listener,
                report=lambda line: click.echo(line, err=True),
                max_request_bytes=max_request_mib * 2**20,
                max_request_values=max_request_values,
            )
    click.echo("stopped", err=True)


@main.command()
@click.argument("model", type=_FOLDER)
@click.option(
    "--output",
    type=_FOLDER,
    required=True,
    help="Folder of the served model: its name is the model's, its subfolders are versions.",
)
@click.option("--version", type=click.IntRange(0), help="Version to write.  [default: the next]")
def export(model, output, version):
    """Write a fitted MODEL for TensorFlow Serving, as OUTPUT/VERSION.

    Before it gets that name, what was written is loaded by a process that does not have this
    package, answers a sample request, and is compared with the scores of MODEL.
    """
    with reported(), terminated_as_interrupted():
        artifact.read(model)
        import_tensorflow()
        detector = vae_anomaly.load_detector(model)
        exported = detector.export(output, version)
    click.echo(
        f"{exported.folder}: answers as {model} does; largest difference of {exported.n_rows} "
        f"scores: {exported.largest_difference:.3g}",
        err=True,
    )


@main.command()
@click.argument("model", type=_FOLDER)
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option("--false-alarm-rate", type=float, help="Flag this share of new normal rows.")
@click.option(
    "--alerts", type=float, metavar="N", help="Flag N of as many new normal rows as --per."
)
@click.option("--per", type=float, metavar="M", help="Number of rows that --alerts is meant for.")
@click.option("--quantile", type=float, help="Flag this share of the calibration rows.")
@click.option("--threshold", type=float, help="Flag scores below this.")
@click.option(
    "--tail",
    type=click.Choice(["gpd"]),
    help="Extrapolate a rate finer than the calibration rows can tell, by a generalised Pareto "
    "distribution of the lowest scores.",
)
@click.option("--delimiter", help="Separator of the fields of CSV.  [default: comma; tab in .tsv]")
@click.option("--encoding", default="utf-8", show_default=True, help="Encoding of CSV.")
def calibrate(model, inputs, threshold, delimiter, encoding, **wishes):
    """Calibrate a fitted MODEL by INPUT, move its threshold, or both; without training.

    INPUT is files of normal rows, or images, that the model was not fitted on: as 'score' takes
    them. p-values and false-alarm rates are then by these. Without INPUT the calibration rows
    stay. No score changes.
    """
    wishes = {"score": threshold, **wishes}
    is_moved = any(wish is not None for wish in wishes.values())
    if not (inputs or is_moved):
        raise click.UsageError("Expected INPUT, or an option that moves the threshold.")
    with reported(), terminated_as_interrupted():
        artifact.read(model)
        import_tensorflow()
        detector = vae_anomaly.load_detector(model)
        if inputs:
            scores = batch.scores_of(inputs, detector, delimiter=delimiter, encoding=encoding)
            detector.calibrate_by(scores)
        if is_moved:
            detector.set_threshold(**wishes)
        detector.save(model)
    click.echo(f"{model}: {detector.threshold_report()}", err=True)


@main.command()
@click.argument("model", type=_FOLDER)
def info(model):
    """Describe a fitted MODEL: its columns or images, network and threshold."""
    with reported():
        description = artifact.read(model)
    print_model(model, description)


@main.command()
@click.option(
    "--output",
    type=_FOLDER,
    default="demo",
    show_default=True,
    help="Folder for the tables, the model, the scores and the picture.",
)
def demo(output):
    """Find malignant tumours after having seen benign ones only.

    Runs 'fit' and 'score' on the Breast Cancer Wisconsin table: two thirds of the benign rows
    train; the other benign rows and all malignant ones are scored.
    """
    import pandas as pd

    from vae_anomaly.demo import draw_scores, print_findings, write_tables

    train, test, model = output / "train.csv", output / "test.csv", output / "model"
    with reported():
        output.mkdir(parents=True, exist_ok=True)
        write_tables(train, test)
    context = click.get_current_context()
    context.invoke(fit, source=train, model=model, ids=("row", "diagnosis"))
    context.invoke(score, inputs=[test], model=model, output=output / "scored.csv")
    scored = pd.read_csv(output / "scored.csv")
    print_findings(scored, vae_anomaly.load_detector(model))
    draw_scores(scored, artifact.read(model)["offset"], output / "scores.png")


def _server():
    try:
        return importlib.import_module("vae_anomaly.serving.dev_server.serve")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Expected the packages of a web server. Received no {error.name}: "
            "in this project's folder, pip install '.[serve]'"
        ) from error
