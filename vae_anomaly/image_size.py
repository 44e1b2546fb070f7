"""The smallest image that is modelled."""

SMALLEST_SIDE = 8  #: pixels
