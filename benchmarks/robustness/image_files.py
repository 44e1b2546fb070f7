"""Read image files with bytes changed, inserted or cut off, and count what is not handled.

``python -m benchmarks.robustness.image_files --cases 5000 --seed 0`` prints a line for each kind of
file: how many were still read, how many are unreadable with a reason, how many raised anything
else, and the slowest. The last line has the memory that the process took at most.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from vae_anomaly.images.decoding import read_images
from vae_anomaly.images.form import ImageForm
from vae_anomaly.tensorflow_import import import_tensorflow

FORM = ImageForm((8, 8, 1))
ORIENTATION = 0x0112


def whole_files() -> dict[str, bytes]:
    """Return an image of 20 x 15 pixels in each kind of file."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 15, 3)).astype(np.uint8)
    image, turned = Image.fromarray(pixels), Image.Exif()
    turned[ORIENTATION] = 6
    kinds: dict[str, dict[str, Any]]
    kinds = {name: {"format": name} for name in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")}
    for name in ("JPEG", "PNG", "TIFF", "WEBP"):
        kinds[f"{name} turned"] = {"format": name, "exif": turned}
    for compression in ("jpeg", "tiff_lzw"):
        kinds[f"TIFF {compression}"] = {"format": "TIFF", "compression": compression}
    files = {}
    for name, options in kinds.items():
        with io.BytesIO() as file:
            image.save(file, **options)
            files[name] = file.getvalue()
    return files


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some changed, inserted or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place, what = rng.randrange(len(data)), rng.random()
        if what < 0.6:
            data[place] ^= 1 << rng.randrange(8)
        elif what < 0.8:
            data[place] = rng.choice([0, 127, 255])
        elif what < 0.9:
            data[place:place] = rng.randbytes(4)
        else:
            del data[max(place, 1) :]
    return bytes(data)


def attack(path: pathlib.Path, content: bytes, n_cases: int, rng: random.Random) -> Counter:
    """Return how many mutations of a file were read, were unreadable or raised something else."""
    found: Counter = Counter()
    for _ in range(n_cases):
        path.write_bytes(mutated(content, rng))
        started = time.monotonic()
        try:
            _, errors = read_images([str(path)], FORM)
            found["unreadable" if errors else "read"] += 1
        except Exception as error:  # what this program looks for
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            found["raised"] += 1
        found["milliseconds"] = max(
            found["milliseconds"], round(1000 * (time.monotonic() - started))
        )
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=5000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    import_tensorflow()
    warnings.filterwarnings("ignore", module="PIL")  # about what is damaged
    files = whole_files()
    print(f"{'file':14} {'cases':>6} {'read':>6} {'unreadable':>11} {'raised':>7} slowest, ms")
    total: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            rng = random.Random(f"{name} {args.seed}")
            found = attack(pathlib.Path(folder) / "a.png", content, args.cases // len(files), rng)
            counts = found["read"], found["unreadable"], found["raised"]
            row = "{:14} {:6} {:6} {:11} {:7} {:6}"
            print(row.format(name, sum(counts), *counts, found["milliseconds"]), flush=True)
            total.update(raised=found["raised"])
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB of memory at most")
    return int(total["raised"] > 0)


if __name__ == "__main__":
    sys.exit(main())
