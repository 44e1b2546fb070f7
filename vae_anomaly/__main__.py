"""``python -m vae_anomaly``."""

from vae_anomaly.cli import main

main(prog_name="vae-anomaly")
