"""Models without memory for their weights: to know the shapes before they cost anything."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state

_WAITING = "uninitialized_variables"


@contextmanager
def unallocated() -> Iterator[None]:
    """Build models within this context whose variables have shapes, but never values.

    Keras gives variables of a stateless scope their values when the next such scope ends. Those of
    this one are struck from its list.

    Examples
    --------
    >>> with unallocated():
    ...     layer = keras.layers.Dense(10**9)
    ...     layer.build((None, 10**9))
    >>> tuple(layer.kernel.shape)
    (1000000000, 1000000000)
    """
    before = list(global_state.get_global_attribute(_WAITING, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(_WAITING, before)
