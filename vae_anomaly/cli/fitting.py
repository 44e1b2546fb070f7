"""``fit``, ``inspect`` and ``calibrate``: the commands that make a model, or change it."""

import pathlib

import click

import vae_anomaly
from vae_anomaly.atomic import atomic_file
from vae_anomaly.batch.run import threads_per_operation
from vae_anomaly.batch.scores import scores_of
from vae_anomaly.cli.exits import reported, terminated_as_interrupted
from vae_anomaly.cli.fit_files import (
    FIT,
    FIT_OPTIONS,
    GO_ON_OPTIONS,
    SCHEMA_OPTIONS,
    fit_params,
    input_kind,
    table_schema,
)
from vae_anomaly.cli.table_options import table_options
from vae_anomaly.detectors import artifact
from vae_anomaly.images.augmentation import AUGMENTATIONS
from vae_anomaly.tables.paths import check_is_no_input
from vae_anomaly.tables.schema_text import print_schema
from vae_anomaly.tables.table_files import TableFiles
from vae_anomaly.tensorflow_import import import_tensorflow, set_threads_per_operation

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


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
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
    "--training",
    type=click.Choice(["as_is", "clean"]),
    default="as_is",
    show_default=True,
    help="Whether rows of the table are as they come, perhaps with anomalies, or all normal: the "
    "composite score is the one that suits them.",
)
@click.option(
    "--n-reference",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Rows of the table that the model keeps, to compare others with.",
)
@click.option(
    "--max-rows",
    type=click.IntRange(1),
    metavar="N",
    help="Train on a uniform sample of N rows where there are more; what is learned about columns "
    "is by all.  [default: 2,000,000 cells, and 10,000 rows at least]",
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
    "size, shrunk to 64 pixels on the longer side, not so with --tiles; 224x224 with --backbone]",
)
@click.option(
    "--tiles",
    metavar="HxW",
    help="Height and width in pixels of overlapping windows into which images are cut for the "
    "networks; scores and maps are of whole images.  [default: whole images]",
)
@click.option(
    "--augmentation",
    type=click.Choice(AUGMENTATIONS),
    multiple=True,
    help="Train also on copies of the images that are changed so; for few images. Can be "
    "repeated.  [default: no copies]",
)
@click.option(
    "--backbone",
    metavar="NAME|FILE",
    help="Model feature maps of this network instead of pixels: a name in keras.applications, such "
    "as 'efficientnetv2-b0', or a .keras file.",
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
@click.option(
    "--from",
    "earlier",
    type=_FOLDER,
    metavar="MODEL",
    help="Go on from this model of tables with new rows: its schema, networks and scales are kept, "
    "new levels added, thresholds and p-values by the new rows. In 1500 steps by default.",
)
@click.option("--quiet", is_flag=True, help="Show no column kinds and no progress.")
@click.pass_context
def fit(context, inputs, model, quiet, dry_run, **options):
    """Learn from tables of mostly normal rows, or from a folder of images.

    INPUT is CSV, TSV (also .gz, .zst) and Parquet files, folders of them, and patterns: of any
    size, together one table. How they are written and what their columns are is decided once from
    all cells, and shown before training starts; 'inspect' shows the same. The options that name a
    COLUMN override what was found and can be repeated.

    If INPUT is a folder of images: images are the PNG, JPEG, BMP, GIF, TIFF and WebP files in it
    and its sub-folders. Files that cannot be read are named and left out.
    """
    with reported(), terminated_as_interrupted():
        name = input_kind(inputs)
        artifact.check_target(model)
        own = {option: options.pop(option) for option in FIT_OPTIONS[name]}
        _refuse_foreign(context, name)
        params = fit_params(quiet, options)
        if own.get("earlier"):
            params = _given_params(context, params)
        if name == "table" and own["quarantine"] is None:
            own["quarantine"] = model.with_name(f"{model.name}.quarantine.csv")
        if dry_run and name != "table":
            raise ValueError("Expected --dry-run for a table only. Received: images. Leave it out.")
        if dry_run:
            schema_options = {name: own[name] for name in SCHEMA_OPTIONS}
            _show_schema(TableFiles(inputs, exclude=[own["quarantine"]]), schema_options)
            return
        detector, what = FIT[name](inputs, params, **own)
        detector.save(model)
    click.echo(f"{model}: fitted on {what}; {detector.threshold_report()}", err=True)
    if not quiet and detector.contamination == "auto":
        click.echo(
            "All training rows count as normal here. If a share of them is not, fit with "
            f"--contamination SHARE, or run 'vae-anomaly calibrate {model} NORMAL'.",
            err=True,
        )


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@table_options
@click.option("--output", type=_TABLE, help="JSON file for what was found; fit --schema takes it.")
def inspect(inputs, output, **options):
    """Show what 'fit' would take tables for, without training.

    INPUT is as of 'fit': CSV, TSV and Parquet files, folders of them, and patterns.

    For each column its kind and format, examples, how many values differ, how many cells are
    missing and what is done with it; then notes on probable mistakes, each with a remedy.
    """
    with reported():
        files = TableFiles(inputs)
        if output is not None:
            check_is_no_input(output, files.paths)
        schema = _show_schema(files, options)
        if output is not None:
            with atomic_file(output) as file:
                file.write(schema.to_json().encode())


def _show_schema(files, options):
    from rich.console import Console

    schema = table_schema(files, **options)
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


def _given_params(context, params):
    """Return the parameters given for a detector that goes on from a model; refuse others."""
    given = [
        parameter
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    for parameter in given:
        if parameter.name not in GO_ON_OPTIONS:
            raise ValueError(
                f"Expected no {parameter.opts[0]} where --from is given: the model has decided on "
                "it. Leave it out, or fit anew."
            )
    names = {"verbose", *(parameter.name for parameter in given)}
    return {name: value for name, value in params.items() if name in names}


@click.command()
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
@click.option("--delimiter", help="Separator of CSV.  [default: as in training, or as found]")
@click.option("--encoding", help="Encoding of CSV.  [default: as in training, or as found]")
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
        set_threads_per_operation(threads_per_operation(model))
        import_tensorflow()
        detector = vae_anomaly.load_detector(model)
        if inputs:
            scores = scores_of(inputs, detector, delimiter=delimiter, encoding=encoding)
            detector.calibrate_by(scores)
        if is_moved:
            detector.set_threshold(**wishes)
        detector.save(model)
    click.echo(f"{model}: {detector.threshold_report()}", err=True)
