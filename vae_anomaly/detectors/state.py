"""Loads saved detectors: what ``artifact`` verified becomes what ``packing`` rebuilds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vae_anomaly.detectors import artifact
from vae_anomaly.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from vae_anomaly.detectors.autoencoder import AutoencoderDetector
    from vae_anomaly.detectors.vae import VAEDetector


def load_detector(folder: str | os.PathLike[str]) -> VAEDetector | AutoencoderDetector:
    """Load a detector saved by ``VAEDetector.save`` or ``vae-anomaly fit``.

    Parameters
    ----------
    folder : path

    Returns
    -------
    VAEDetector or AutoencoderDetector
        Scores bit for bit as before saving, on the same machine and library versions. ``encoder``
        and ``decoder``, where they were given, have the weights that training gave them.

    Raises
    ------
    ArtifactError
        The folder is not a whole, undamaged detector. Nothing else is raised for what is in it,
        whoever made it; damage is found before TensorFlow is imported.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from vae_anomaly import AutoencoderDetector, load_detector
    >>> X = np.random.default_rng(0).normal(size=(1100, 2))
    >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(folder + "/m")
    ...     again = load_detector(folder + "/m")
    >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    content = artifact.read(folder)
    weights = artifact.read_weights(folder, content)
    import_tensorflow()
    from vae_anomaly.detectors.autoencoder import AutoencoderDetector
    from vae_anomaly.detectors.packing import unpack
    from vae_anomaly.detectors.vae import VAEDetector

    classes = {"VAEDetector": VAEDetector, "AutoencoderDetector": AutoencoderDetector}
    detector = classes[content["class"]]()
    try:
        unpack(detector, content, weights)
    except Exception as error:  # whatever Keras and scikit-learn say of what does not fit
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise artifact.ArtifactError(
            f"{folder}: expected parts that make a detector. Received: {reason:.300}"
        ) from error
    return detector
