"""What the server counts, in the text format that Prometheus reads."""

import numpy as np
import prometheus_client
from prometheus_client.core import GaugeMetricFamily

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
# Log densities may be of any size and sign; those of most rows are near zero.
_SCORES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000, 3000, 10_000)
_SCORE_BUCKETS = (*(-edge for edge in reversed(_SCORES)), 0, *_SCORES)


class Metrics:
    """Requests, latency, rows, anomalies, scores and versions.

    Rows and scores are counted for models whose signature answers one number per row as 'score',
    and anomalies where 'is_anomaly' is true. A model that is not served counts under the name '',
    so that requests cannot make new series without end.

    Parameters
    ----------
    models : ServedFolder
    queue : RequestQueue
    """

    def __init__(self, models, queue):
        self._models = models
        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "model_server_requests",
            "Predict requests that were answered, by HTTP status.",
            ["model", "status"],
            registry=self._registry,
        )
        self._seconds = prometheus_client.Histogram(
            "model_server_request_seconds",
            "Time from a request's header to its answer.",
            ["model"],
            registry=self._registry,
        )
        self._rows = prometheus_client.Counter(
            "model_server_rows", "Rows that were scored.", ["model"], registry=self._registry
        )
        self._anomalies = prometheus_client.Counter(
            "model_server_anomalies",
            "Rows under the threshold.",
            ["model"],
            registry=self._registry,
        )
        self._scores = prometheus_client.Histogram(
            "model_server_score",
            "Scores of rows.",
            ["model"],
            registry=self._registry,
            buckets=_SCORE_BUCKETS,
        )
        requests = prometheus_client.Gauge(
            "model_server_requests_held",
            "Requests that are read, wait or are answered now.",
            registry=self._registry,
        )
        requests.set_function(lambda: queue.n_requests)
        self._registry.register(self)

    def collect(self):
        """The versions that have been seen, as ``prometheus_client`` asks for them."""
        family = GaugeMetricFamily(
            "model_server_version_state",
            "1 for the state that a version is in.",
            labels=["model", "version", "state"],
        )
        for name, versions in self._models.states().items():
            for version, state in versions.items():
                family.add_metric([name, str(version), state], 1)
        yield family

    def count_request(self, name, status, seconds):
        """Count a predict request that was answered."""
        label = name if name in self._models.names else ""
        self._requests.labels(label, str(status)).inc()
        self._seconds.labels(label).observe(seconds)

    def count_rows(self, name, outputs):
        """Count the rows of a model's answer, given by name as arrays."""
        scores, is_anomaly = outputs.get("score"), outputs.get("is_anomaly")
        if scores is None or scores.ndim != 1 or scores.dtype.kind != "f":
            return
        self._rows.labels(name).inc(len(scores))
        series = self._scores.labels(name)
        for score in scores[~np.isnan(scores)].tolist():
            series.observe(score)
        if is_anomaly is not None and is_anomaly.dtype == np.bool_:
            self._anomalies.labels(name).inc(int(is_anomaly.sum()))

    def text(self):
        """The body of ``GET /metrics``."""
        return prometheus_client.generate_latest(self._registry)
