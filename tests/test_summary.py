"""What a summary says of a batch beside the training rows."""

import json

import numpy as np
import pytest

from vae_anomaly.batch.summary import Tally, summary_text
from vae_anomaly.tables.preprocessing import TablePreprocessor

DAY = 86400.0
NEW_YEAR = 1704067200.0
CALIBRATION = np.linspace(-1, 1, 200)


def tally_of(kinds, training, state=None):
    preprocessor = TablePreprocessor(kinds)
    preprocessor.adapt(training)
    return Tally(preprocessor, CALIBRATION, state)


def outputs(n):
    return {"score": np.linspace(-1, 1, n), "is_anomaly": np.zeros(n, bool)}


@pytest.mark.parametrize("days", [0, 40])
def test_a_batch_outside_of_the_training_period_is_a_line(days):
    dates = NEW_YEAR + DAY * np.arange(31)
    tally = tally_of({"when": "datetime"}, {"when": dates})
    tally.update({"when": dates + days * DAY}, outputs(31), 0)
    state = json.loads(json.dumps(tally.state()))
    again = tally_of({"when": "datetime"}, {"when": dates}, state)
    assert again.report() == tally.report()
    (period,) = tally.report()["training_periods"]
    assert period == {
        "column": "when",
        "first": "2024-01-01",
        "last": "2024-01-31",
        "outside": float(days > 0),
    }
    lines = [line for line in summary_text(tally.report()) if line.startswith("warning")]
    expected = (
        "warning: column 'when': 100.0% of the dates are outside of the training period, "
        "2024-01-01 to 2024-01-31; that alone is not scored"
    )
    assert lines == [expected] * (days > 0)
