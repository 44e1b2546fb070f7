"""Tables on a cluster of Spark: detectors fitted to them, and their rows scored, by the workers."""

from vae_anomaly.spark.fitting import SparkRows as SparkRows
from vae_anomaly.spark.scoring import output_schema as output_schema
from vae_anomaly.spark.scoring import score as score
from vae_anomaly.spark.scoring import scorer as scorer
