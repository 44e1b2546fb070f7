"""Sizes of images: the smallest one that is modelled, and that of images for a backbone."""

SMALLEST_SIDE = 8  #: pixels
#: Height and width for a backbone, where nobody chose any: what most such networks have been
#: trained with.
BACKBONE_SIDE = 224
