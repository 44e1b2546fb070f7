"""Folders of images as chunks: each image is a row, with what the model says of it."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from vae_anomaly.batch.chunks import (
    ScoredChunk,
    check_threshold,
    chosen_offset,
    decided,
    fingerprint,
    loaded,
)
from vae_anomaly.batch.maps import MapDrawer, check_folder, map_paths
from vae_anomaly.batch.places import identity, is_folder
from vae_anomaly.batch.summary import Tally
from vae_anomaly.detectors import artifact
from vae_anomaly.images.decoding import ImageFileError, printable, read_images
from vae_anomaly.images.files import SUFFIXES, files_in, is_image, others_in, skipped_text
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.paths import Path, listed
from vae_anomaly.tables.writer import text_column

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector

# Pixel values read at a time, and images at most.
_CHUNK_VALUES = 2**22
_MOST_CHUNK_IMAGES = 512


class _Files(NamedTuple):
    """Consecutive files, as read."""

    paths: list[str]  #: those that could be read
    bad: list[ImageFileError]  #: the others
    end: tuple[int]  #: how many files were read so far


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredImages(ScoredChunk):
    """Consecutive images with what the scorer says of them."""

    paths: list[str]
    images: np.ndarray  #: uint8 or uint16 (n, height, width, channels)
    contributions: np.ndarray  #: what each pixel adds to the score, (n, height, width)


class ImageChunkScorer:
    """Scores image files chunk by chunk; implements ``chunks.ChunkScorer``.

    All files together are one input: it has changed if one of them has.

    Parameters
    ----------
    inputs, detector, threshold, false_alarm_rate, maps
        As of ``run.score_files``.
    exclude : collection of path
        Files that will be written.

    Raises
    ------
    ValueError
        An option that makes no sense, an input without images, a model of images unlike files.
    """

    title: ClassVar[str] = "images"
    OPTIONS: ClassVar[Mapping[str, Any]] = {"maps": None}
    threads_per_operation: ClassVar[int | None] = None
    quarantine_header: ClassVar[tuple[str, ...]] = ("file", "reason")
    reasons = None

    def __init__(
        self,
        inputs: Path | Sequence[Path],
        detector: BaseDetector | Path,
        *,
        exclude: Collection[Path],
        threshold: float | None,
        false_alarm_rate: float | None,
        maps: Path | None,
    ) -> None:
        inputs = listed(inputs)
        exclude = [*exclude, *([] if maps is None else [maps])]
        self.files, skipped = find_images(inputs, exclude)
        self.warnings = [skipped_text(skipped)] if skipped else []
        self.paths = [", ".join(map(printable, inputs))]
        known = [[path, *_status(path)] for path in self.files]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        self.identities = [[len(self.files), digest]]
        _check_takes_files(detector)
        check_threshold(threshold, false_alarm_rate)
        self._detector = detector
        self._threshold, self._false_alarm_rate = threshold, false_alarm_rate
        self.maps: MapDrawer | None = None  #: once loaded
        self._maps_folder = maps
        if maps is not None:
            check_folder(maps)
            self._map_paths = map_paths(maps, inputs, self.files)

    def check_output(self, output: Path, format: str | None) -> None:
        """Raise ValueError if the output is a folder, for all images go to one file."""
        if is_folder(output):
            raise ValueError(
                "Expected a file for the output, for the model is one of images. Received: "
                f"{output}, a folder. Name a file, such as scored.csv."
            )

    def load(self) -> None:
        """Load the model; nothing below works without."""
        fitted = loaded(self._detector)
        self._scorer = fitted.scorer_
        self.calibration_scores = self._scorer.calibration_scores.numpy()
        self._is_pooled = fitted.is_pooled
        self.offset = chosen_offset(fitted, self._threshold, self._false_alarm_rate)
        image_shape = self._scorer.preprocessor.image_shape
        self._n_at_once = max(
            1, min(_MOST_CHUNK_IMAGES, _CHUNK_VALUES // int(np.prod(image_shape)))
        )
        if self._maps_folder is not None:
            self.maps = MapDrawer(self._scorer, self._maps_folder, self._map_paths, self._n_at_once)

    def identity(self, path: str) -> list:
        """Return what was found at the start: files are read whole, so none changes meanwhile."""
        return self.identities[0]

    def reader(self, path: str) -> contextlib.AbstractContextManager[ImageChunkScorer]:
        """Open the input, for ``share_read``."""
        return contextlib.nullcontext(self)

    def share_read(self, chunk: _Files) -> float:
        """Return which share of the files has been read with a chunk."""
        return chunk.end[0] / len(self.files)

    def chunks(
        self, path: str, reader: ImageChunkScorer, start: Sequence[int] = ()
    ) -> Iterator[tuple[_Files, np.ndarray]]:
        """Yield consecutive files, and the images of those that can be read."""
        for first in range(start[0] if start else 0, len(self.files), self._n_at_once):
            paths = self.files[first : first + self._n_at_once]
            images, errors = read_images(paths, self._scorer.preprocessor.form)
            good = [index for index in range(len(paths)) if index not in errors]
            bad = [errors[index] for index in sorted(errors)]
            chunk = _Files([paths[index] for index in good], bad, (first + len(paths),))
            yield chunk, images[good]

    def scored(self, path: str, chunk: _Files, images: np.ndarray) -> ScoredImages:
        """Score one of the ``chunks``."""
        found = self._scorer.run(images, ("score", "p_value", "feature_log_prob"))
        return ScoredImages(
            path,
            text_column("path", list(map(printable, chunk.paths))),
            decided(found, self.offset),
            chunk.bad,
            {},
            chunk.paths,
            images,
            found["feature_log_prob"],
        )

    def row_name(self, scored: ScoredImages, row: int, number: int) -> str:
        """Return the path of an image."""
        return printable(scored.paths[row])

    def tally(self, state: dict | None) -> Tally:
        """Return a ``Tally`` of what is scored, which goes on from a state."""
        return Tally(None, self.calibration_scores, state, pooled=self._is_pooled)

    def job(self) -> dict[str, Any]:
        """Return all that decides on the outputs, as plain data."""
        folder = self._maps_folder
        options = {
            "threshold": self._threshold,
            "false_alarm_rate": self._false_alarm_rate,
            "maps": None if folder is None else os.path.realpath(folder),
        }
        return {"model": fingerprint(self._scorer), "options": options}

    def place(self, scored: ScoredChunk, bad: ImageFileError) -> str:
        """Return which file cannot be read, for messages."""
        return printable(bad.path)

    def quarantine_row(self, scored: ScoredChunk, bad: ImageFileError) -> tuple[str, str]:
        """Return what the quarantine says of a file."""
        return printable(bad.path), bad.reason


def find_images(
    inputs: Sequence[str], exclude: Collection[Path] = ()
) -> tuple[list[str], list[str]]:
    """Return the images that paths, folders and patterns stand for, and skipped files of folders.

    Parameters
    ----------
    inputs : sequence of str
    exclude : collection of path
        Files not to be taken; and folders, with all that is in them.

    Raises
    ------
    ValueError
        An input is no image, has none, or is in an excluded folder; a file is there twice.
    """
    excluded = [os.path.realpath(path) for path in exclude]
    found, skipped = [], []
    for name in inputs:
        for path, real in zip(exclude, excluded, strict=True):
            if _is_within(name, real):
                raise ValueError(
                    "Expected a place of its own for what is written. Received: "
                    f"{printable(path)}, which has the input {printable(name)} in it."
                )
        images = _outside(excluded, _images_of(name))
        skipped += _outside(excluded, others_in(name) if os.path.isdir(name) else [])
        if not images:
            raise ValueError(
                f"{printable(name)}: expected {', '.join(SUFFIXES)} files, for the model is one of "
                "images. Received: none. Check the path."
            )
        found += images
    repeated = [path for path, count in Counter(map(os.path.abspath, found)).items() if count > 1]
    if repeated:
        raise ValueError(f"Expected each image once. Received twice: {printable(repeated[0])}.")
    return found, skipped


def _outside(folders, paths):
    return [path for path in paths if not any(_is_within(path, folder) for folder in folders)]


def _images_of(name):
    """Return the images that one input stands for."""
    if os.path.isdir(name):
        return files_in(name)
    if not os.path.exists(name) and glob.has_magic(name):
        return sorted(filter(is_image, glob.glob(name, recursive=True)))
    if not is_image(name):
        raise ValueError(
            f"{printable(name)}: expected image files ({', '.join(SUFFIXES)}) or folders of them, "
            "for the model is one of images. Received: another kind of file. Fit a model on tables "
            "to score tables."
        )
    if not os.path.lexists(name):
        raise ValueError(f"{printable(name)}: expected a file. Received: none. Check the path.")
    return [name]


def _check_takes_files(detector):
    if isinstance(detector, (str, os.PathLike)):
        schema = artifact.read(detector)["schema"]
    else:
        schema = detector.scorer_.preprocessor.schema()
    if schema["dtype"] not in ("uint8", "uint16"):
        raise ValueError(
            "Expected a model of images of uint8 or uint16, as image files are. Received: one of "
            f"{schema['dtype']}. Fit it on such images."
        )
    if schema["channels"] not in (1, 3):
        raise ValueError(
            "Expected a model of images of 1 or 3 channels, as image files have. Received: one of "
            f"{schema['channels']}. Fit it on such images."
        )


def _status(path):
    with contextlib.suppress(TableError):  # found to be unreadable when its turn comes
        return identity(path)
    return []


def _is_within(path, folder):
    real = os.path.realpath(path)
    return real == folder or real.startswith(os.path.join(folder, ""))
