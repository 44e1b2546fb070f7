"""``serve`` and ``export``: the commands for models that servers run."""

import contextlib
import importlib
import pathlib

import click

import vae_anomaly
from vae_anomaly.cli.exits import reported, terminated_as_interrupted
from vae_anomaly.detectors import artifact
from vae_anomaly.tensorflow_import import import_tensorflow

_TABLE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


@click.command()
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


@click.command()
@click.argument("model", type=_FOLDER)
@click.option(
    "--output",
    type=_FOLDER,
    required=True,
    help="Folder of the served model: its name is the model's, its subfolders are versions.",
)
@click.option("--version", type=click.IntRange(0), help="Version to write.  [default: the next]")
@click.option(
    "--format",
    type=click.Choice(["savedmodel", "onnx"]),
    default="savedmodel",
    show_default=True,
    help="A SavedModel for TensorFlow Serving, or model.onnx for ONNX Runtime, which needs the "
    "extra 'onnx'.",
)
def export(model, output, version, format):
    """Write a fitted MODEL for TensorFlow Serving or ONNX Runtime, as OUTPUT/VERSION.

    Before it gets that name, what was written is loaded by a process that does not have this
    package, answers a sample request, and is compared with the scores of MODEL.
    """
    with reported(), terminated_as_interrupted():
        artifact.read(model)
        import_tensorflow()
        detector = vae_anomaly.load_detector(model)
        exported = detector.export(output, version, format)
    click.echo(
        f"{exported.folder}: answers as {model} does; largest difference of {exported.n_rows} "
        f"scores: {exported.largest_difference:.3g}",
        err=True,
    )


def _server():
    try:
        return importlib.import_module("vae_anomaly.serving.dev_server.serve")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Expected the packages of a web server. Received no {error.name}: "
            "in this project's folder, pip install '.[serve]'"
        ) from error
