"""The form that all images of a model have: shape, depth, and how others are brought to it."""

from typing import NamedTuple

#: How images of other proportions are brought to a size.
RESIZES = ("stretch", "pad", "crop")


class ImageForm(NamedTuple):
    """What the images of a model have in common."""

    shape: tuple[int, int, int]  #: height, width and channels
    dtype: str = "uint8"  #: of the pixels: "uint8" or "uint16"
    resize: str = "stretch"  #: one of ``RESIZES``


def check_resize(resize: str) -> str:
    """Return one of ``RESIZES``; raise ValueError for anything else."""
    if resize not in RESIZES:
        raise ValueError(f"Expected `resize` among {RESIZES}. Received: resize={resize!r}.")
    return resize
