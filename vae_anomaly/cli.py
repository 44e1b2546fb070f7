"""The command line: thin commands over the detector, the artifact and the table files.

TensorFlow is imported only once a command has checked all that can be checked without it.
"""

import contextlib
import errno
import importlib
import os
import pathlib
import re
import signal
import sys
import time
import warnings

import click
import numpy as np

import vae_anomaly
from vae_anomaly.batch import images as image_batch
from vae_anomaly.batch import run as batch
from vae_anomaly.batch.summary import summary_text
from vae_anomaly.detectors import artifact
from vae_anomaly.images.files import printable
from vae_anomaly.model_info import print_kinds, print_model
from vae_anomaly.tables import reader as table_reader
from vae_anomaly.tables.rules import KINDS

_TABLE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)
# As scoring.SCORE_TYPES, which cannot be imported without TensorFlow.
_SCORE_TYPES = [
    "composite",
    "reconstruction_probability",
    "importance_weighted",
    "elbo",
    "reconstruction_error",
]
# Of the machine, not of the input: another run may do.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOMEM)
# Pixels on a side that the networks take.
_SMALLEST_IMAGE = 8
# Options that are of tables alone, or of images alone.
_TABLE_FIT = ("numeric", "categorical", "ids", "drop", "delimiter", "encoding")
_IMAGE_FIT = ("image_size", "color")
_TABLE_SCORE = ("columns", "explain", "delimiter", "encoding", "chunk_rows")
_IMAGE_SCORE = ("maps",)
# Between lines of progress where there is no terminal.
_LOG_SECONDS = 30


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
    help="What a score is.",
)
@click.option(
    "--hidden-units",
    default="128,128",
    show_default=True,
    help="Units of the encoder's layers, separated by commas.",
)
@click.option(
    "--latent-dim",
    type=int,
    help="Size of z.  [default: 16, 32 for images, or the number of features if less]",
)
@click.option(
    "--max-steps",
    type=int,
    help="Largest number of steps.  [default: 6000; 1500 for images, 4000 for small ones]",
)
@click.option("--random-state", type=int, default=0, show_default=True, help="Seed.")
@click.option("--numeric", multiple=True, metavar="COLUMN", help="Model the column as numbers.")
@click.option("--categorical", multiple=True, metavar="COLUMN", help="Model it as categories.")
@click.option("--id", "ids", multiple=True, metavar="COLUMN", help="Keep it, do not model it.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Neither model it nor write it back.")
@click.option("--delimiter", help="Between the fields of CSV.  [default: comma; tab in .tsv]")
@click.option("--encoding", default="utf-8", show_default=True, help="Of CSV.")
@click.option(
    "--image-size",
    metavar="HxW",
    help="Height and width in pixels to which images are brought.  [default: the most frequent "
    "size, shrunk to 64 pixels on the longer side]",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "grey", "rgb"]),
    default="auto",
    show_default=True,
    help="Of images; 'auto' is grey if all files are.",
)
@click.option("--quiet", is_flag=True, help="No kinds, no progress.")
@click.pass_context
def fit(context, source, model, hidden_units, image_size, color, quiet, **rest):
    """Learn from a CSV, TSV or Parquet TABLE of mostly normal rows, or a FOLDER of images.

    Column kinds are inferred once from the whole file; the options that name a COLUMN
    override them and can be repeated. They are shown before training starts.

    Images are the PNG and JPEG files in FOLDER and its sub-folders. Files that cannot be read are
    named and left out.
    """
    table_options = {name: rest.pop(name) for name in _TABLE_FIT}
    with _reported():
        artifact.check_target(model)
        of_images = source.is_dir()
        _refuse_others(context, of_images, _TABLE_FIT, _IMAGE_FIT)
        if rest["contamination"] != "auto":
            rest["contamination"] = _number(rest["contamination"], "--contamination", float)
        rest["hidden_units"] = [
            _number(units, "--hidden-units", int) for units in hidden_units.split(",") if units
        ]
        rest["verbose"] = int(not quiet)
        if of_images:
            detector, what = _fit_images(source, image_size, color, rest)
        else:
            detector, what = _fit_table(source, table_options, rest)
        detector.save(model)
    click.echo(f"{model}: fitted on {what}, threshold {detector.offset_:.6g}", err=True)


def _fit_table(table, options, params):
    """Return a detector fitted to a table file, and what this was."""
    text = {name: options.pop(name) for name in ("delimiter", "encoding")}
    kinds = _chosen_kinds(table, **options, **text)
    modelled = {name: kind for name, kind in kinds.items() if kind in KINDS}
    frame = table_reader.read_frame(table, modelled, **text)
    if params["verbose"]:
        print_kinds(kinds)
    detector = _tensorflow_ready().VAEDetector(kinds=kinds, **params).fit(frame)
    return detector, f"{len(frame)} rows of {frame.shape[1]} columns"


def _fit_images(folder, image_size, color, params):
    """Return a detector fitted to a folder of images, and what these were."""
    size = None if image_size is None else _image_size(image_size)
    package = _tensorflow_ready()
    with warnings.catch_warnings():  # said in its own way below
        warnings.simplefilter("ignore")
        images = package.ImageFolder(folder)
    for path, reason in images.unreadable.items():
        click.echo(f"left out: {printable(path)}: {reason}", err=True)
    height, width, channels = images.shape[1:]
    height, width = size or (height, width)
    channels = {"auto": channels, "grey": 1, "rgb": 3}[color]
    detector = package.VAEDetector(image_shape=(height, width, channels), **params).fit(images)
    return detector, f"{len(images)} images of {height} x {width} pixels, {channels} channel(s)"


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
@click.option("--only-anomalies", is_flag=True, help="Write the anomalies alone.")
@click.option(
    "--top",
    type=click.IntRange(1),
    help="Write to each output so many rows alone, those with the lowest scores, lowest first.",
)
@click.option(
    "--explain",
    type=click.IntRange(1),
    help="Name so many columns that lowered the score most, instead of what each adds.",
)
@click.option("--threshold", type=float, help="Scores under it are anomalies.")
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
@click.option("--resume", is_flag=True, help="Go on with the work of a run that did not finish.")
@click.option("--delimiter", help="Between the fields of CSV.  [default: comma; tab in .tsv]")
@click.option("--encoding", default="utf-8", show_default=True, help="Of CSV.")
@click.option(
    "--chunk-rows",
    type=click.IntRange(1),
    default=table_reader.CHUNK_ROWS,
    show_default=True,
    help="Rows to score at a time.",
)
@click.option(
    "--maps",
    type=_FOLDER,
    help="Folder for a PNG of each image written: the image, what the model expects instead, and "
    "which pixels are less probable than usual (red: full at 10 nats), usual (white), more so "
    "(blue).",
)
@click.option("--quiet", is_flag=True, help="No progress, no summary.")
@click.pass_context
def score(context, inputs, model, output, on_bad_row, max_bad_rows, columns, quiet, **options):
    """Score each row of CSV, TSV (also .gz, .zst) and Parquet files, folders, patterns, - (stdin).

    The output has the columns of the input, then score (higher is more normal), decision
    (score - threshold), is_anomaly, p_value and, for each modelled column, feature_log_prob:
    what it adds to the score relative to what is usual.

    If MODEL is of images: each PNG and JPEG file, also of the sub-folders of folders. The output
    has the columns path, score, decision, is_anomaly and p_value.

    Exit codes: 0 done; 2 wrong use or input; 3 too many bad rows; 4 interrupted, the disk full or
    the like: run again with --resume; 130 interrupted where standard input or output is involved.
    """
    if on_bad_row == "fail" and max_bad_rows is not None:
        raise click.UsageError("Expected '--on-bad-row fail' or '--max-bad-rows'. Received both.")
    if not (options["resume"] or quiet) and batch.work_folder(output).exists():
        click.echo(f"discarding the unfinished work in {batch.work_folder(output)}", err=True)
    resumable_output = None if batch.STANDARD in (*inputs, output) else output
    with (
        _reported(resumable_output),
        _terminated_as_interrupted(),
        _row_counter(quiet) as progress,
    ):
        of_images = isinstance(artifact.read(model)["schema"], dict)
        _refuse_others(context, of_images, _TABLE_SCORE, _IMAGE_SCORE)
        options.update(
            max_bad_rows=0 if on_bad_row == "fail" else max_bad_rows,
            load=lambda folder: _tensorflow_ready().load_detector(folder),
            progress=progress,
        )
        if of_images:
            for name in set(_TABLE_SCORE) - {"columns"}:
                del options[name]
            report = image_batch.score_image_files(inputs, model, output, **options)
        else:
            del options["maps"]
            image_batch.refuse_images(inputs, model)
            report = batch.score_files(inputs, model, output, columns=columns or None, **options)
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
    default=64,
    show_default=True,
    help="Largest request to read.",
)
def serve(folder, host, port, max_request_mib):
    """Serve the SavedModels in FOLDER/NAME/<integer>, with TensorFlow Serving's REST API.

    A server for development: no password, no TLS. The newest version of each model is served; a
    newer one that appears takes over. Ctrl-C ends it when the requests under way are answered.
    """
    with _reported(), _terminated_as_interrupted(), contextlib.suppress(KeyboardInterrupt):
        server = _server()
        server.check_folder(folder)
        with server.listen(host, port) as listener:
            _tensorflow_ready()
            server.serve(
                folder,
                listener,
                report=lambda line: click.echo(line, err=True),
                max_request_bytes=max_request_mib * 2**20,
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
    with _reported(), _terminated_as_interrupted():
        artifact.read(model)
        detector = _tensorflow_ready().load_detector(model)
        exported = detector.export(output, version)
    click.echo(
        f"{exported.folder}: answers as {model} does; largest difference of {exported.n_rows} "
        f"scores: {exported.largest_difference:.3g}",
        err=True,
    )


@main.command()
@click.argument("model", type=_FOLDER)
def info(model):
    """Describe a fitted MODEL: its columns or images, network and threshold."""
    with _reported():
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

    from vae_anomaly.datasets import load_breast_cancer

    frame = load_breast_cancer()
    frame.insert(0, "row", np.arange(len(frame)))
    benign = np.flatnonzero(frame["diagnosis"] == "benign")
    train = np.sort(np.random.default_rng(0).permutation(benign)[: 2 * len(benign) // 3])
    paths = {name: output / name for name in ("train.csv", "test.csv", "scored.csv", "model")}
    with _reported():
        output.mkdir(parents=True, exist_ok=True)
        frame.iloc[train].to_csv(paths["train.csv"], index=False)
        frame.drop(index=train).to_csv(paths["test.csv"], index=False)
    context = click.get_current_context()
    context.invoke(fit, source=paths["train.csv"], model=paths["model"], ids=("row", "diagnosis"))
    context.invoke(
        score, inputs=[paths["test.csv"]], model=paths["model"], output=paths["scored.csv"]
    )
    scored = pd.read_csv(paths["scored.csv"])
    _print_findings(scored, vae_anomaly.load_detector(paths["model"]))
    _draw(scored, artifact.read(paths["model"])["offset"], output / "scores.png")


def _print_findings(scored, detector):
    from scipy.stats import mannwhitneyu

    malignant = scored["diagnosis"] == "malignant"
    n_pairs = malignant.sum() * (~malignant).sum()
    # The AUROC is Mann and Whitney's U as a share of all pairs.
    auroc = (
        mannwhitneyu(scored["score"][~malignant], scored["score"][malignant]).statistic / n_pairs
    )
    flagged = scored["is_anomaly"]
    click.echo(
        f"\nAUROC against the diagnosis: {auroc:.3f}\n"
        f"Flagged: {(flagged & malignant).sum()} of {malignant.sum()} malignant rows, "
        f"{(flagged & ~malignant).sum()} of {(~malignant).sum()} benign ones\n"
        "\nThe five most anomalous rows, and the columns that made them so (nats; value seen, "
        "value expected):"
    )
    worst = scored.nsmallest(5, "score")
    explanation = detector.explain(worst[list(detector.feature_names_in_)])
    for position, (index, row) in enumerate(worst.iterrows()):
        click.echo(f"  row {row['row']} ({row['diagnosis']}): score {row['score']:.1f}")
        contribution = explanation.loc[index, "contribution"]
        for column in contribution[list(detector.feature_names_in_)].nsmallest(3).index:
            seen, expected = (
                explanation[group][column].iloc[position] for group in ("value", "expected")
            )
            click.echo(f"    {contribution[column]:10.1f}  {column} ({seen:.4g}, {expected:.4g})")


def _draw(scored, offset, path):
    from vae_anomaly.displays import ScoreDistributionDisplay

    try:
        display = ScoreDistributionDisplay.from_scores(
            scored["score"], offset=offset, labels=scored["diagnosis"]
        )
    except ImportError:
        click.echo(
            "\nNo picture: matplotlib is missing. From its folder, pip install '.[plot]'", err=True
        )
        return
    display.figure_.savefig(path, dpi=150)
    click.echo(f"\nPicture: {path}")


def _refuse_others(context, of_images, of_tables_only, of_images_only):
    """Raise ValueError if an option was given that does not apply to images, or to tables."""
    names, what = (of_tables_only, "tables") if of_images else (of_images_only, "images")
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise ValueError(
                f"Expected no option that is for {what}. Received: {parameter.opts[0]}. Leave it "
                "out."
            )


def _image_size(text):
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not match or min(map(int, match.groups())) < _SMALLEST_IMAGE:
        raise ValueError(
            f"--image-size: expected HEIGHTxWIDTH, such as 64x48, each {_SMALLEST_IMAGE} or more. "
            f"Received: {text!r}."
        )
    return tuple(map(int, match.groups()))


def _chosen_kinds(table, numeric, categorical, ids, drop, **text):
    """Kinds of all columns of a file: inferred, then overridden by the options."""
    options = {
        **dict.fromkeys(numeric, "numeric"),
        **dict.fromkeys(categorical, "categorical"),
    }
    unmodelled = {**dict.fromkeys(ids, "id"), **dict.fromkeys(drop, "dropped")}
    twice = sorted(set(options) & set(unmodelled) | set(numeric) & set(categorical))
    if twice or set(ids) & set(drop):
        raise ValueError(
            f"Expected one option for a column. Received several: {twice or sorted(ids)}."
        )
    return table_reader.infer_kinds(table, {**options, **unmodelled}, **text)


def _server():
    try:
        return importlib.import_module("vae_anomaly.serving.dev_server.serve")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Expected the packages of a web server. Received no {error.name}: "
            "in this project's folder, pip install '.[serve]'"
        ) from error


def _tensorflow_ready():
    """Import TensorFlow without its greetings on stderr, and return the package."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            importlib.import_module("tensorflow")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    return vae_anomaly


def _number(text, option, kind):
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{option}: expected a number. Received: {text!r}.") from None


@contextlib.contextmanager
def _reported(output=None):
    """Turn what went wrong with files into one line on stderr and an exit code; see ``score``."""
    try:
        yield
    except Exception as error:
        cause = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
        number = cause.errno if cause else None
        kept = output is not None and batch.work_folder(output).exists()
        if number == errno.EPIPE:  # the reader of standard output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        if isinstance(error, batch.TooManyBadRowsError):
            _exit(3, f"error: {error}" + ("; with another limit, --resume goes on" if kept else ""))
        if kept and (number in _PASSING or isinstance(error, MemoryError)):
            _exit(4, f"error: {error or 'out of memory'}; to go on, run again with --resume")
        if not isinstance(error, (ValueError, TypeError, OSError, FloatingPointError)):
            if kept:
                click.echo(f"the work done is in {batch.work_folder(output)}", err=True)
            raise
        _exit(2, f"error: {error}")
    except KeyboardInterrupt:
        if output is not None:
            _exit(4, "interrupted; to go on, run again with --resume")
        _exit(128 + signal.SIGINT, "interrupted")


def _exit(code, message):
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)


@contextlib.contextmanager
def _terminated_as_interrupted():
    """Let SIGTERM do what Ctrl-C does, so that the work is left in order."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _row_counter(quiet):
    """Yield a function that shows rows and anomalies so far: a bar, or lines in a log."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    started = last = time.monotonic()
    first = None  # rows that an earlier run has done

    def text(n_rows, n_anomalies):
        nonlocal first
        first = n_rows if first is None else first
        rate = (n_rows - first) / max(time.monotonic() - started, 1e-9)
        return f"{n_rows} rows, {rate:.0f} rows/s, {n_anomalies} anomalies"

    def log(n_rows, n_anomalies, share):
        nonlocal last
        shown = text(n_rows, n_anomalies)
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            click.echo(shown + ("" if share is None else f", {share:.0%} read"), err=True)

    if quiet or not console.is_terminal:
        yield None if quiet else log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = None

        def show(n_rows, n_anomalies, share):
            nonlocal task
            if task is None:  # only now, or the share done before would count for the time left
                task = bar.add_task("", total=None if share is None else 1, completed=share or 0)
            bar.update(task, description=text(n_rows, n_anomalies), completed=share or 0)

        yield show
