"""Maps: a PNG for each scored image that shows which of its pixels made it unusual."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.images.colours import map_colours
from vae_anomaly.images.decoding import printable, read_images
from vae_anomaly.tables.paths import Path

if TYPE_CHECKING:
    import pyarrow as pa

    from vae_anomaly.batch.images import ScoredImages
    from vae_anomaly.scoring.images import ImageScorer

# Small images are enlarged to about this many pixels on the longer side.
_MAP_SIDE = 128
# This file marks a folder whose maps may be written again.
_OURS = ".vae_anomaly_maps"


class MapDrawer:
    """Writes maps to a folder, laid out as the images are.

    A map shows side by side the image as the model sees it, what the model expects instead (not
    with a backbone), and what each pixel adds to the score.

    Parameters
    ----------
    scorer : ImageScorer
    folder : path
        Created if it does not exist; see ``check_folder``.
    targets : dict of str to pathlib.Path
        The map of each image; see ``map_paths``.
    n_at_once : int
        Images to hold in memory.
    """

    def __init__(
        self,
        scorer: ImageScorer,
        folder: Path,
        targets: Mapping[str, pathlib.Path],
        n_at_once: int,
    ) -> None:
        self._scorer, self._targets, self._n_at_once = scorer, targets, n_at_once
        os.makedirs(folder, exist_ok=True)
        (pathlib.Path(folder) / _OURS).touch()

    def draw(self, scored: ScoredImages, rows: np.ndarray) -> None:
        """Write the maps of some images of a scored chunk."""
        if len(rows):
            paths = [scored.paths[row] for row in rows]
            self._write(paths, scored.images[rows], scored.contributions[rows])

    def draw_again(self, table: pa.Table) -> None:
        """Write the maps of the images in a table of the output, which are read again."""
        path_of_text = {printable(path): path for path in self._targets}
        paths = [path_of_text[text] for text in table["path"].to_pylist()]
        for first in range(0, len(paths), self._n_at_once):
            some = paths[first : first + self._n_at_once]
            images, errors = read_images(some, self._scorer.preprocessor.form)
            if errors:
                raise errors[min(errors)]
            found = self._scorer.run(images, ("feature_log_prob",))
            self._write(some, images, found["feature_log_prob"])

    def _write(self, paths, images, contributions):
        import tensorflow as tf

        low, high = self._scorer.preprocessor.value_range
        seen = (images.astype(np.float64) - low) / (high - low)
        expected = self._scorer.expected(images)
        pictures = [seen] if expected is None else [seen, expected]
        levels = [np.clip(np.round(part * 255), 0, 255).astype(np.uint8) for part in pictures]
        for path, contribution, *parts in zip(paths, contributions, *levels, strict=True):
            target = self._targets[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            # Without waiting for the disk, which takes longer than all the rest.
            part = target.with_name(f".{target.name}.tmp")
            part.write_bytes(tf.io.encode_png(_map(parts, contribution)).numpy())
            part.replace(target)


def map_paths(folder: Path, inputs: Sequence[str], paths: Sequence[str]) -> dict[str, pathlib.Path]:
    """Return the map of each image: its name with ".png" added, in the same sub-folder.

    Sub-folders are those below the input, if this is one folder, else those below the folder that
    all images share.
    """
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        root = os.path.abspath(inputs[0])
    else:
        root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    folder = pathlib.Path(folder)
    return {path: folder / f"{os.path.relpath(os.path.abspath(path), root)}.png" for path in paths}


def check_folder(folder: Path) -> None:
    """Raise ValueError if maps could overwrite other files.

    The folder must be new, empty, or one that maps have been written to.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    if names and _OURS not in names:
        raise ValueError(
            "Expected a new or empty folder for the maps, or one of earlier maps. Received: "
            f"{printable(folder)}, which has {printable(min(names))} in it. Name another folder."
        )


def _map(pictures, contribution):
    """Return pictures and contributions side by side, uint8 (height, width, 3)."""
    colours = 255 * map_colours(contribution)
    panels = [np.broadcast_to(part, (*part.shape[:2], 3)) for part in pictures]
    whole = np.concatenate([*panels, np.round(colours).astype(np.uint8)], axis=1)
    factor = max(1, _MAP_SIDE // max(contribution.shape))
    return whole.repeat(factor, axis=0).repeat(factor, axis=1)
