"""The command line: thin commands over the detector, the artifact and the files.

TensorFlow is imported only once a command has checked all that can be checked without it.
"""

import click

import vae_anomaly
from vae_anomaly.cli.fitting import calibrate, fit, inspect
from vae_anomaly.cli.reporting import report
from vae_anomaly.cli.scoring import score
from vae_anomaly.cli.serving import export, serve
from vae_anomaly.cli.showing import demo, info


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vae_anomaly.__version__)
def main():
    """Find the unusual rows of a table, or unusual images, how unusual they are, and why."""


for command in (fit, inspect, score, serve, export, calibrate, report, info, demo):
    main.add_command(command)
