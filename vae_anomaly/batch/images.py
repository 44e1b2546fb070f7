"""Score folders of image files: a row of the output for each, and maps of what made it unusual.

What ``batch`` does for tables, with an image file for a row: chunks, quarantine, resume, summary.
"""

import contextlib
import functools
import glob
import hashlib
import json
import os
import pathlib
from collections import Counter
from typing import NamedTuple

import numpy as np

from vae_anomaly.batch import run as batch
from vae_anomaly.batch.places import identity, is_folder
from vae_anomaly.batch.summary import Tally
from vae_anomaly.batch.tables import (
    ScoredChunk,
    check_threshold,
    chosen_offset,
    decided,
    fingerprint,
)
from vae_anomaly.detectors import artifact
from vae_anomaly.images.files import (
    SUFFIXES,
    ImageFileError,
    files_in,
    is_image,
    printable,
    read_images,
)
from vae_anomaly.tables.files import TableError, is_table
from vae_anomaly.tables.writer import text_column

# Pixels read at a time, and images at most.
_CHUNK_VALUES = 2**22
_MOST_CHUNK_IMAGES = 512
# Nats beyond what is usual for a pixel at which a map has its full colour.
FULL_COLOUR = 10.0
# Small images are enlarged to about so many pixels in a map.
_MAP_SIDE = 128
# Says of a folder that maps were written to it, so may be again.
_OURS = ".vae_anomaly_maps"


class _Files(NamedTuple):
    """A stretch of the files, as read."""

    paths: list[str]  #: those that could be read
    bad: list[ImageFileError]  #: the others
    end: tuple[int]  #: how many files were read so far


def score_image_files(
    inputs,
    detector,
    output,
    *,
    format=None,
    only_anomalies=False,
    top=None,
    threshold=None,
    false_alarm_rate=None,
    max_bad_rows=None,
    quarantine=None,
    summary=None,
    maps=None,
    resume=False,
    progress=None,
    load=artifact.load_detector,
):
    """Score image files; as ``batch.score_files``, but for what is said here.

    Rows of the output are path, score, decision, is_anomaly and p_value.

    Parameters
    ----------
    inputs : path, or sequence of path
        Image files, folders with images in them and in their sub-folders, patterns.
    detector : fitted detector, or path of a saved one
        Of images of uint8.
    output : path
        A CSV, TSV or Parquet file, or "-".
    format, only_anomalies, top, threshold, false_alarm_rate, resume, progress, load
        As in ``batch.score_files``.
    max_bad_rows, quarantine, summary
        As there, for files that cannot be read: their file and reason.
    maps : path or None
        Folder, empty unless an earlier run wrote maps to it, which are overwritten. It gets a PNG
        file for each row written, under the sub-folders of the inputs:
        side by side the image as the model sees it, what it expects instead, and what each pixel
        adds to the score. White is usual; red is less probable than usual, blue is more, in full
        colour from ``FULL_COLOUR`` nats.

    Returns
    -------
    dict
        The summary; an image is a row.

    Raises
    ------
    batch.TooManyBadRowsError, ValueError
        As ``batch.score_files``; the detector is not one of such images; the folder of the maps
        has other files in it.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    inputs = [os.fspath(path) for path in inputs]
    if is_folder(output):
        raise ValueError(f"Expected a file for the output. Received: {output}, a folder.")
    paths = find_images(inputs, maps)
    if maps is not None:
        _check_maps(maps)
    targets, quarantines = batch.places(paths, output, format, quarantine, summary)
    batch.check_options(inputs, output, resume=resume, top=top, max_bad_rows=max_bad_rows)
    scoring = ImageChunkScorer(
        inputs,
        paths,
        detector,
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        maps=maps,
        load=load,
    )
    on_top = None
    if maps is not None:
        drawer = _MapDrawer(scoring.scorer, maps, inputs, paths)
        if top is None:
            scoring.on_scored = functools.partial(drawer.draw, only_anomalies=only_anomalies)
        else:  # which rows these are is known only at the end
            on_top = drawer.draw_again
    return batch.run(
        scoring,
        [scoring.identity(path) for path in scoring.paths],
        output,
        targets,
        quarantines,
        format=format,
        only_anomalies=only_anomalies,
        top=top,
        max_bad_rows=max_bad_rows,
        summary=summary,
        resume=resume,
        progress=progress,
        on_top=on_top,
    )


def find_images(inputs, maps=None):
    """Return the image files that paths, folders and patterns stand for, each once.

    Parameters
    ----------
    inputs : sequence of str
    maps : path or None
        Folder to which images will be written: what is in it already is left out.

    Raises
    ------
    ValueError
        An input is no image, has none, or is in the folder of the maps; a file is there twice.
    """
    own = None if maps is None else os.path.realpath(maps)
    found = []
    for name in inputs:
        if own and _is_within(name, own):
            raise ValueError(
                f"Expected a folder of its own for the maps. Received: {printable(maps)}, which "
                f"has the input {printable(name)} in it."
            )
        if os.path.isdir(name):
            images = files_in(name)
        elif not os.path.exists(name) and glob.has_magic(name):
            images = sorted(filter(is_image, glob.glob(name, recursive=True)))
        elif not is_image(name):
            raise ValueError(
                f"Expected image files ({', '.join(SUFFIXES)}) or folders of them, for a model of "
                f"images. Received: {printable(name)}."
            )
        elif not os.path.lexists(name):
            raise ValueError(f"{printable(name)}: expected a file. Received: none. Check the path.")
        else:
            images = [name]
        images = [path for path in images if not (own and _is_within(path, own))]
        if not images:
            raise ValueError(
                f"{printable(name)}: expected {', '.join(SUFFIXES)} files. Received: none. Check "
                "the path."
            )
        found += images
    repeated = [path for path, count in Counter(map(os.path.abspath, found)).items() if count > 1]
    if repeated:
        raise ValueError(f"Expected each image once. Received twice: {printable(repeated[0])}.")
    return found


def refuse_images(inputs, model):
    """Raise ValueError if an input is images, which a model of tables cannot score."""
    for name in inputs:
        has_images = is_image(name)
        if os.path.isdir(name) and not any(map(is_table, os.listdir(name))):
            has_images = bool(files_in(name))
        if has_images:
            raise ValueError(
                f"Expected tables, for {model} is a model of tables. Received: images, "
                f"{printable(name)}. Fit a model on a folder of images."
            )


class ImageChunkScorer:
    """What is done to each stretch of the files; for ``batch.run``, as ``ChunkScorer`` is.

    Parameters
    ----------
    inputs : sequence of str
    paths : sequence of str
        The files that these stand for: to ``batch.run`` all of them are one input.
    detector, threshold, false_alarm_rate, maps, load
        As of ``score_image_files``.

    Attributes
    ----------
    on_scored : callable or None
        Called with the paths, images, ``feature_log_prob`` and outputs of what has been scored.
    """

    quarantine_header = ("file", "reason")

    def __init__(self, inputs, paths, detector, *, threshold, false_alarm_rate, maps, load):
        is_path = isinstance(detector, (str, os.PathLike))
        if is_path:
            schema = artifact.read(detector)["schema"]
        else:
            schema = detector.scorer_.preprocessor.schema()
        if not isinstance(schema, dict):
            raise ValueError("Expected a model of images. Received: a model of tables.")
        if (schema["dtype"], schema["value_range"]) != ("uint8", [0.0, 255.0]):
            raise ValueError(
                "Expected a model of images of uint8, from 0 to 255, as image files are. Received: "
                f"one of {schema['dtype']}, from {schema['value_range'][0]:g} to "
                f"{schema['value_range'][1]:g}. Fit it on such images."
            )
        check_threshold(threshold, false_alarm_rate)
        self._files = paths
        self._options = {
            "threshold": threshold,
            "false_alarm_rate": false_alarm_rate,
            "maps": None if maps is None else os.path.realpath(maps),
        }
        self.paths = [", ".join(map(printable, inputs))]
        known = [[path, *_status(path)] for path in paths]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        self._identity = [len(paths), digest]
        fitted = load(detector) if is_path else detector
        self.scorer = fitted.scorer_
        self._offset = chosen_offset(fitted, threshold, false_alarm_rate)
        self.on_scored = None

    def identity(self, _):
        """Return what tells whether the files have changed; a file is read at once, so now."""
        return self._identity

    def reader(self, _):
        """Open the input, for ``share_read``."""
        return contextlib.nullcontext(self)

    def share_read(self, chunk):
        """Return which share of the files has been read with a chunk."""
        return chunk.end[0] / len(self._files)

    def chunks(self, _, reader, start=()):
        """Yield the files piece by piece, those that cannot be read apart, and their images."""
        image_shape = self.scorer.preprocessor.image_shape
        for first in range(start[0] if start else 0, len(self._files), _chunk_images(image_shape)):
            paths = self._files[first : first + _chunk_images(image_shape)]
            images, errors = read_images(paths, image_shape)
            good = [index for index in range(len(paths)) if index not in errors]
            bad = [errors[index] for index in sorted(errors)]
            chunk = _Files([paths[index] for index in good], bad, (first + len(paths),))
            yield chunk, images[good]

    def scored(self, source, chunk, images):
        """Score one of the ``chunks``."""
        found = self.scorer.run(images, ("score", "p_value", "feature_log_prob"))
        raw = text_column("path", list(map(printable, chunk.paths)))
        scored = ScoredChunk(source, raw, decided(found, self._offset), chunk.bad, {})
        if self.on_scored:
            self.on_scored(chunk.paths, images, found["feature_log_prob"], scored.outputs)
        return scored

    def tally(self, state):
        """Return a ``Tally`` of what is scored, which goes on from a state."""
        return Tally(None, self.scorer.calibration_scores.numpy(), state)

    def job(self):
        """Return all that decides on the outputs, as plain data."""
        return {"model": fingerprint(self.scorer), "options": self._options}

    def place(self, _, error):
        """Return which file cannot be read, for messages."""
        return printable(error.path)

    def quarantine_row(self, _, error):
        """Return what the quarantine says of a file."""
        return printable(error.path), error.reason


class _MapDrawer:
    """Writes maps to a folder, laid out as the files are."""

    def __init__(self, scorer, folder, inputs, paths):
        self._scorer, self._folder = scorer, pathlib.Path(folder)
        if len(inputs) == 1 and os.path.isdir(inputs[0]):
            self._root = os.path.abspath(inputs[0])
        else:
            self._root = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
        self._path_of_text = {printable(path): path for path in paths}
        counts = Counter(map(self._target, paths))
        repeated = [target for target, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(
                f"Expected a map of its own for each image. Received two for {repeated[0]}. "
                "Rename one of them."
            )
        os.makedirs(folder, exist_ok=True)
        (self._folder / _OURS).touch()

    def draw(self, paths, images, contributions, outputs, *, only_anomalies):
        """Write the maps of a chunk, or of its anomalies."""
        rows = np.flatnonzero(outputs["is_anomaly"] | (not only_anomalies))
        if len(rows):
            self._write([paths[row] for row in rows], images[rows], contributions[rows])

    def draw_again(self, table):
        """Write the maps of the files in a table."""
        paths = [self._path_of_text[text] for text in table["path"].to_pylist()]
        image_shape = self._scorer.preprocessor.image_shape
        for first in range(0, len(paths), _chunk_images(image_shape)):
            some = paths[first : first + _chunk_images(image_shape)]
            images, errors = read_images(some, image_shape)
            if errors:
                raise errors[min(errors)]
            found = self._scorer.run(images, ("feature_log_prob",))
            self._write(some, images, found["feature_log_prob"])

    def _write(self, paths, images, contributions):
        import tensorflow as tf

        expected = self._scorer.preprocessor.inverse(self._scorer.reconstruct(images))
        expected = np.clip(np.round(expected), 0, 255).astype(np.uint8)
        for path, *parts in zip(paths, images, expected, contributions, strict=True):
            target = self._target(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not by ``write_whole``: to wait for the disk takes longer than all the rest.
            part = target.with_name(f".{target.name}.tmp")
            part.write_bytes(tf.io.encode_png(_map(*parts)).numpy())
            part.replace(target)

    def _target(self, path):
        relative = os.path.relpath(os.path.abspath(path), self._root)
        return self._folder / (relative if relative.lower().endswith(".png") else relative + ".png")


def _check_maps(folder):
    """Raise ValueError if maps could overwrite what is not one."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    if names and _OURS not in names:
        raise ValueError(
            "Expected a new or empty folder for the maps, or one of earlier maps. Received: "
            f"{printable(folder)}, which has {printable(min(names))} in it. Name another folder."
        )


def _map(image, expected, contribution):
    """Image, expected image and contributions side by side, uint8 (height, width, 3)."""
    strength = np.clip(contribution / FULL_COLOUR, -1, 1)
    # White loses green and blue where a pixel lowers the score, red and green where it raises it.
    less, more = np.maximum(-strength, 0), np.maximum(strength, 0)
    colours = 255 * (1 - np.stack([more, less + more, less], axis=-1))
    three = [np.broadcast_to(part, (*part.shape[:2], 3)) for part in (image, expected)]
    whole = np.concatenate([*three, np.round(colours).astype(np.uint8)], axis=1)
    factor = max(1, _MAP_SIDE // max(image.shape[:2]))
    return whole.repeat(factor, axis=0).repeat(factor, axis=1)


def _chunk_images(image_shape):
    return max(1, min(_MOST_CHUNK_IMAGES, _CHUNK_VALUES // int(np.prod(image_shape))))


def _status(path):
    with contextlib.suppress(TableError):  # found to be unreadable when its turn comes
        return identity(path)
    return []


def _is_within(path, folder):
    real = os.path.realpath(path)
    return real == folder or real.startswith(os.path.join(folder, ""))
