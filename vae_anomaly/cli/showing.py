"""``info`` and ``demo``: the commands that show what there is."""

import pathlib

import click

import vae_anomaly
from vae_anomaly.cli.exits import reported
from vae_anomaly.cli.fitting import fit
from vae_anomaly.cli.scoring import score
from vae_anomaly.detectors import artifact
from vae_anomaly.model_info import print_model

_TABLE = click.Path(dir_okay=False, path_type=pathlib.Path)
_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


@click.command()
@click.argument("model", type=_FOLDER)
def info(model):
    """Describe a fitted MODEL: its columns or images, network and threshold."""
    with reported():
        description = artifact.read(model)
    print_model(model, description)


@click.command()
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
    context.invoke(fit, inputs=[train], model=model, ids=("row", "diagnosis"))
    context.invoke(score, inputs=[test], model=model, output=output / "scored.csv")
    scored = pd.read_csv(output / "scored.csv")
    print_findings(scored, vae_anomaly.load_detector(model))
    draw_scores(scored, artifact.read(model)["offset"], output / "scores.png")
