"""The kinds of input that a detector takes, and what it asks of each; here alone one is chosen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from vae_anomaly.detectors.defaults import is_default
from vae_anomaly.detectors.feature_input import FeatureInput
from vae_anomaly.detectors.image_input import ImageInput
from vae_anomaly.detectors.table_input import TableInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from narwhals.typing import IntoDataFrame
    from pyarrow.dataset import Dataset

    from vae_anomaly.images.files import ImageFolder
    from vae_anomaly.tables.rows import RowSource, TableRows

    #: What detectors take as X.
    Rows: TypeAlias = npt.ArrayLike | pd.DataFrame | IntoDataFrame | ImageFolder
    #: What they take in ``fit`` alone: also rows that are not in memory.
    TrainingRows: TypeAlias = Rows | TableRows | RowSource | Dataset | Iterable[IntoDataFrame]


class Input(Protocol):
    """A kind of input: how data become what is modelled, and answers become like the data.

    ``detector`` is the estimator, whose parameters are read; ``data`` is what ``learn`` and
    ``check`` return and the scorer takes.

    Attributes
    ----------
    name : str
        In saved detectors.
    title : str
        In messages.
    parameters : collection of str
        Parameters of the detectors that mean something for this input only.
    largest_latent_dim : int
        Where ``latent_dim`` is None.
    preprocessor : keras.Layer or None
        None until ``learn``.
    subset : callable or None
        (data, rows by numbers or bools) -> those rows, for cross-fitting; None: too costly to
        train again.
    """

    name: str
    title: str
    parameters: frozenset[str]
    largest_latent_dim: int
    preprocessor: Any
    subset: Any

    @staticmethod
    def takes(detector: Any, X: Any) -> bool:
        """Whether training data are of this kind, for this detector."""

    @classmethod
    def restored(cls, config: dict[str, Any], described: dict[str, Any]) -> Input:
        """Return the input of a saved detector, given the preprocessor's config.

        ``described`` is what an input that learned returned.
        """

    def described(self) -> dict[str, Any]:
        """Return what the preprocessor's config does not hold, as JSON can hold it."""

    def learn(
        self, detector: Any, X: Any, seed: int, sample_weight: Any
    ) -> tuple[Any, np.ndarray | None]:
        """Validate training data, and learn from them how to preprocess.

        Returns
        -------
        data, weights
            Rows that train, and how much each of them counts; see ``row_weights``.
        """

    def augmented(
        self, detector: Any, data: Any, rows: np.ndarray, seed: int
    ) -> tuple[Any, np.ndarray]:
        """Add changed copies of rows, given by number, to training data.

        Returns
        -------
        data, sources
            The data and after them the copies; the row that each of all is or is a copy of.
        """

    def check(self, detector: Any, X: Any) -> Any:
        """Validate data to be scored."""

    def n_rows(self, data: Any) -> int:
        """Count the rows or images."""

    @property
    def n_features(self) -> int:
        """Numbers that the model gets of each row."""

    @property
    def given_networks(self) -> dict[str, Any]:
        """Networks that are parameters of the detector and no part of its model, by name."""

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments of ``build_model`` that follow from the preprocessor."""

    def model_args(self, detector: Any) -> dict[str, Any]:
        """Return all arguments of ``build_model`` that follow from the data."""

    def likelihood_args(self, detector: Any) -> dict[str, Any]:
        """Return the arguments of ``build_model`` that choose a VAE's likelihood."""

    def score_options(self, detector: Any, n_trained: int) -> dict[str, Any]:
        """Return the ``score_options`` of a VAE's scorer, given how many rows train."""

    def build_model(self, args: dict[str, Any], seed: int | None = None) -> Any:
        """Build the VAE or Autoencoder."""

    def build_scorer(self, model: Any, **kwargs: Any) -> Any:
        """Put preprocessor and model together."""

    def training_defaults(self, n_rows: int) -> dict[str, Any]:
        """Return what ``Trainer.train`` takes where a parameter of the detector is None."""

    def batches(self, scorer: Any, data: Any) -> Any:
        """Return the ``inputs_of`` of ``training.Trainer``."""

    def reading(self, data: Any) -> AbstractContextManager[None]:
        """Name the file, where reading training data fails within this context."""

    def doubts(self, scorer: Any, data: Any, is_held_out: Any) -> list[str]:
        """Return what is to be said against what the model learned, a sentence each."""

    def reconstruct(self, detector: Any, X: Any) -> Any:
        """Answer ``BaseDetector.reconstruct``."""

    def explain(self, detector: Any, X: Any) -> Any:
        """Answer ``BaseDetector.explain``."""

    def sample(self, detector: Any, n_rows: int, seed: int) -> Any:
        """Answer ``VAEDetector.sample``."""

    def bits_per_dimension(self, detector: Any, X: Any) -> Any:
        """Answer ``VAEDetector.bits_per_dimension``."""

    def rows(self, data: Any, numbers: Any) -> Any:
        """Return rows of data, given by number."""

    def joined(self, parts: list[Any]) -> Any:
        """Return the rows of several data, one after the other."""

    def row_names(self, X: Any) -> Callable[[int], str]:
        """Return a function of row numbers to names of rows that mean something to people."""

    def report_sections(self, detector: Any, batch: Any) -> dict[str, Any]:
        """Return the parts of ``report.Content`` that are particular to this input."""

    def sampled_inputs(self, x: Any) -> Any:
        """Return samples of a model as it takes them."""

    def served(self, detector: Any) -> Any:
        """Return what ``serving.export`` writes."""


# Asked in this order which of them takes the training data.
INPUTS: dict[str, type[Input]] = {
    kind.name: kind for kind in (FeatureInput, ImageInput, TableInput)
}


def chosen_input(detector: Any, X: Any) -> Input:
    """Choose the input for training data.

    Raises
    ------
    ValueError
        A parameter of the detector is for another input.
    """
    chosen = next(kind for kind in INPUTS.values() if kind.takes(detector, X))
    names = set(inspect.signature(type(detector)).parameters)
    # General kinds first, so that a parameter of images is not said to be one of a backbone.
    for kind in reversed(INPUTS.values()):
        for name in sorted(kind.parameters & names - chosen.parameters):
            if not is_default(detector, name):
                raise ValueError(
                    f"Expected `{name}` for {kind.title} only. Received: "
                    f"{name}={getattr(detector, name)!r} for {chosen.title}. Leave it out."
                )
    return chosen()
