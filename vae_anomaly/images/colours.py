"""Colours of a map: which pixels of an image lower its score, and which raise it."""

import numpy as np
from numpy.typing import ArrayLike

#: Nats beyond what is usual for a pixel at which a map has its full colour.
FULL_COLOUR = 10.0


def map_colours(contribution: ArrayLike) -> np.ndarray:
    """Return red where a pixel lowers the score, blue where it raises it, white where neither.

    Parameters
    ----------
    contribution : (height, width) array
        What each pixel adds to the score, nats; 0 is usual.

    Returns
    -------
    (height, width, 3) array, from 0 to 1

    Examples
    --------
    >>> map_colours([[-10.0, 0.0, 5.0]]).tolist()
    [[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.5, 1.0]]]
    """
    strength = np.clip(np.asarray(contribution) / FULL_COLOUR, -1, 1)
    # White loses green and blue where a pixel lowers the score, red and green where it raises it.
    less, more = np.maximum(-strength, 0), np.maximum(strength, 0)
    return 1 - np.stack([more, less + more, less], axis=-1)
