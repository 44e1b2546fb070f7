"""``report``: the command that writes a page for people."""

import pathlib

import click

import vae_anomaly
from vae_anomaly.batch.reporting import report_files
from vae_anomaly.batch.run import threads_per_operation
from vae_anomaly.cli.exits import reported, terminated_as_interrupted
from vae_anomaly.tensorflow_import import import_tensorflow, set_threads_per_operation

_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


@click.command()
@click.argument("model", type=_FOLDER)
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option(
    "--scored",
    type=_FILE,
    multiple=True,
    help="Table that 'score' wrote, besides INPUT; can be repeated.",
)
@click.option("--output", type=_FILE, required=True, help="HTML file to write.")
@click.option("--title", default="Anomaly report", show_default=True, help="Title of the page.")
@click.option("--delimiter", help="Separator of CSV.  [default: as in training, or as found]")
@click.option("--encoding", help="Encoding of CSV.  [default: as in training, or as found]")
def report(model, inputs, scored, output, **options):
    """Write a report on a fitted MODEL, and on INPUT, as one HTML file.

    INPUT is files as 'score' takes them, or tables that it wrote: they are scored, by the threshold
    of MODEL. The page has the false-alarm rates with intervals, the scores, the lowest rows with
    reasons in words, what moved since training, and how well each column is understood. It has no
    scripts and loads nothing.
    """
    with reported(), terminated_as_interrupted():
        set_threads_per_operation(threads_per_operation(model))
        import_tensorflow()
        report_files([*inputs, *scored], vae_anomaly.load_detector(model), output, **options)
    click.echo(f"{output}: written", err=True)


def report_again(inputs, model, output, options):
    """Report on what was scored, by the threshold that was asked for."""
    detector = vae_anomaly.load_detector(model)
    if options["threshold"] is not None:
        detector.set_threshold(score=options["threshold"])
    elif options["false_alarm_rate"] is not None:
        detector.set_threshold(false_alarm_rate=options["false_alarm_rate"])
    text = {name: options[name] for name in ("delimiter", "encoding", "strict", "allow_missing")}
    report_files(inputs, detector, output, **text)
