"""Make the export that the tests keep: a small detector of a table with every kind of column.

    python saved_models/make.py

writes ``saved_models/orders/<next version>``. Keep the versions of earlier releases: a test asks
all of them, so that a release that breaks them is noticed.
"""

import pathlib

import numpy as np
import pandas as pd

from vae_anomaly import VAEDetector

FOLDER = pathlib.Path(__file__).parent / "orders"


def orders(n_rows=300):
    """Return made-up orders: amount, items, city, whether by a member, and when."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Bergen", "Oslo", "Tromsø"], size=n_rows, p=[0.2, 0.7, 0.1])
    items = 1 + rng.poisson(2, size=n_rows)
    frame = pd.DataFrame(
        {
            "amount (NOK)": (items * rng.lognormal(5, 0.3, size=n_rows)).round(2),
            "items": items,
            "city": city,
            "member": rng.random(n_rows) < 0.3,
            "ordered": pd.Timestamp("2025-01-01")
            + pd.to_timedelta(rng.integers(0, 365 * 86400, n_rows), unit="s"),
        }
    )
    frame.loc[::17, "amount (NOK)"] = None
    frame.loc[5::19, "city"] = None
    return frame


if __name__ == "__main__":
    detector = VAEDetector(hidden_units=(16,), latent_dim=3, max_steps=1500, random_state=0)
    exported = detector.fit(orders()).export(FOLDER)
    print(f"{exported.folder}: largest difference of scores {exported.largest_difference:.3g}")
