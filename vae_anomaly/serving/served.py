"""What exports of tables and of images share: signatures, and Python's answers to compare with."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.scorer import AnomalyScorer

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction

Tensors = dict[str, tf.Tensor]
Arrays = dict[str, np.ndarray]

#: Outputs of ``serving_default``.
SERVED_OUTPUTS = ("score", "decision", "is_anomaly", "p_value", "feature_log_prob")


class Served:
    """A fitted detector as ``export`` sees it; the base of ``ServedTable`` and ``ServedImages``.

    Raw input is what the scorer takes: named columns, or images.

    Parameters
    ----------
    scorer : vae_anomaly.scoring.scorer.AnomalyScorer
        The detector's. Its threshold is that of this moment.

    Attributes
    ----------
    indent : int or None
        Indentation of the sample requests and responses.
    meanings : dict of str to str
        What outputs are, for ``schema.json``.
    lookup_tables : sequence
        TensorFlow's tables that the graph needs.
    """

    indent: int | None
    meanings: Mapping[str, str]
    lookup_tables: Any = ()

    def __init__(self, scorer: AnomalyScorer) -> None:
        self.scorer = scorer

    # What a kind of input defines.

    def specs(self) -> dict[str, tf.TensorSpec]:
        """Return names, types and shapes of the inputs of all signatures but ``more``."""
        raise NotImplementedError

    def raw(self, tensors: Tensors) -> Any:
        """Turn served inputs into raw input, in the graph."""
        raise NotImplementedError

    def more_signatures(self) -> "dict[str, ConcreteFunction]":
        """Trace the signatures that only this kind of input has."""
        return {}

    def more_explained(self, raw: Any, outputs: Tensors) -> Tensors:
        """Return what ``explain`` answers beside the scorer's outputs and ``baseline``."""
        raise NotImplementedError

    def sample(self) -> Any:
        """Make raw input for the sample request, from what the model knows alone."""
        raise NotImplementedError

    def explained(self, raw: Any, answers: Arrays) -> Arrays:
        """Return Python's ``more_explained`` for raw input."""
        raise NotImplementedError

    def requests(self, raw: Any) -> dict[str, Arrays]:
        """Return the inputs of each signature, by name, for raw input."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the part of ``schema.json`` that tells the inputs."""
        raise NotImplementedError

    def scales(self, expected: Arrays) -> Arrays:
        """Return the size of one unit of each output of ``explained`` that is in units."""
        raise NotImplementedError

    # The one array that a model of a format without text takes.

    def array_spec(self) -> tf.TensorSpec:
        """Return name, type and shape of the array."""
        raise NotImplementedError

    def array_sample(self) -> Any:
        """Make raw input, as ``sample`` does, that can be such an array."""
        return self.sample()

    def raw_of_array(self, array: tf.Tensor) -> Any:
        """Turn the array into raw input, in the graph."""
        raise NotImplementedError

    def array_of(self, raw: Any) -> np.ndarray:
        """Return the array of raw input."""
        raise NotImplementedError

    def array_schema(self) -> dict[str, Any]:
        """Return the part of ``schema.json`` that tells the array."""
        raise NotImplementedError

    # What all share.

    def signatures(self) -> "dict[str, ConcreteFunction]":
        """Trace the signatures.

        Returns
        -------
        dict of signature to tf.types.experimental.ConcreteFunction
            Each takes a dict of input name to tensor.
        """

        def of_raw(function):
            return traced(lambda tensors: function(self.raw(tensors)), self.specs())

        return {
            "serving_default": of_raw(self.scored),
            "explain": of_raw(self._explain),
            "latent": of_raw(self._latent),
            **self.more_signatures(),
        }

    def scored(self, raw: Any) -> Tensors:
        """Answer ``serving_default`` for raw input, in the graph."""
        outputs = self.scorer.call(raw)
        return {name: outputs[name] for name in SERVED_OUTPUTS}

    def scored_array(self, array: tf.Tensor) -> Tensors:
        """Answer all that is about the score for ``array_spec``, in the graph."""
        return self._with_baseline(self.scorer.call(self.raw_of_array(array)))

    def _explain(self, raw):
        outputs = self.scorer.call(raw)
        return {**self._with_baseline(outputs), **self.more_explained(raw, outputs)}

    def _with_baseline(self, outputs):
        baseline = tf.reduce_sum(self.scorer.feature_mean) + self.scorer.latent_mean
        return {**outputs, "baseline": tf.fill(tf.shape(outputs["score"]), baseline)}

    def _latent(self, raw):
        return {"z_mean": self.scorer.model.latent_mean(self.scorer.preprocessor.call(raw))}

    def answers(self, raw: Any) -> Arrays:
        """Return Python's answers to raw input, by output."""
        answers = self.scorer.run(raw)
        answers["baseline"] = np.full(len(answers["score"]), self.scorer.baseline)
        answers["z_mean"] = self.scorer.latent(raw)
        return {**answers, **self.explained(raw, answers)}


def traced(
    function: Callable[[Tensors], Tensors], specs: dict[str, tf.TensorSpec]
) -> "ConcreteFunction":
    """Trace a function of a dict of tensors, given a dict of their ``tf.TensorSpec``."""
    return tf.function(function, input_signature=[specs], autograph=False).get_concrete_function()
