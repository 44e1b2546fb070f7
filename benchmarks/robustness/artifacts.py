"""Attack ``load_detector`` with damaged and crafted folders.

    python benchmarks/robustness/artifacts.py [--cases 2000] [--seed 0] [--jobs 2]

Each case takes a saved detector (of a table, of images, a plain autoencoder, one of given networks)
and damages it: bytes of a file; members of its JSON, replaced by hostile values, hashes made right
again; the archive of weights, rebuilt wrongly; the configuration of a network. A list of crafted
folders (thousands of layers, 10**8 draws, a million levels, compressed gigabytes, sparse files,
deep JSON) comes first. A case is held if ``load_detector`` raises an ArtifactError of one line or
loads, within 60 s and 2 GB, and a good folder still loads afterwards. Workers run the cases; what
ends one is reported with its number.
"""

import argparse
import copy
import json
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile

import numpy as np

from vae_anomaly.detectors.artifact import FILES, ArtifactError

MOST_SECONDS, MOST_MIB = 60, 2000
CASES_PER_WORKER = 250
HOSTILE: tuple = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**8, 2**31, 2**63, 10**30, -(10**9), 0.5, 1e308, 1e-308),
    *("", "relu", "keras.utils.get_file", "\x00", "\ud800", "é" * 1000, "a/../b", "categorical"),
    *([], {}, [[]], [None], [0] * 5, [4] * 1500, [20000, 20000], {"": 0}, {"class_name": "Lambda"}),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        folder, first, last = options.work
        work(pathlib.Path(folder), options.seed, range(int(first), int(last)))
        return
    with tempfile.TemporaryDirectory() as folder:
        save_detectors(pathlib.Path(folder))
        attack(folder, options)


def save_detectors(folder):
    """Save a detector of each kind."""
    import pandas as pd

    from vae_anomaly import AutoencoderDetector, VAEDetector

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": rng.lognormal(size=60),
            "city": rng.choice(["Oslo", "Bergen"], 60),
            "member": rng.random(60) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(60), unit="D"),
        }
    )
    images = rng.integers(0, 256, size=(20, 8, 8)).astype(np.uint8)
    small: dict = {"hidden_units": (4,), "max_steps": 1, "random_state": 0}
    VAEDetector(**small).fit(table).save(folder / "table")
    AutoencoderDetector(**small).fit(table).save(folder / "autoencoder")
    VAEDetector(**small, filters=(2,)).fit(images).save(folder / "images")
    save_given_networks(folder)


def save_given_networks(folder):
    """Save a detector whose networks were given."""
    import keras

    from vae_anomaly import VAEDetector

    x, z = keras.Input((4,)), keras.Input((2,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(3, activation="tanh")(x))
    encoder = keras.Model(x, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
    decoder = keras.Model(z, keras.layers.Dense(8)(z))
    detector = VAEDetector(encoder=encoder, decoder=decoder, max_steps=1, random_state=0)
    detector.fit(np.random.default_rng(0).normal(size=(60, 4))).save(folder / "given")


def attack(folder, options):
    """Run all cases in workers, and print what they found."""
    starts = list(range(0, options.cases, CASES_PER_WORKER))
    running: list[subprocess.Popen] = []
    results: list[dict] = []
    while starts or running:
        while starts and len(running) < options.jobs:
            first = starts.pop(0)
            last = min(first + CASES_PER_WORKER, options.cases)
            command = [sys.executable, __file__, "--seed", str(options.seed), "--work", folder]
            running.append(
                subprocess.Popen(
                    [*command, str(first), str(last)], stdout=subprocess.PIPE, text=True
                )
            )
        output, _ = running[0].communicate()
        process = running.pop(0)
        results += [json.loads(line) for line in output.splitlines()]
        if process.returncode:
            case = results[-1]["next"] if output else "the first"
            results.append({"held": False, "next": 0, "what": f"case {case} ended its worker"})
        failures = [result for result in results if not result["held"]]
        print(f"{len(results)} tried, {len(failures)} not held", file=sys.stderr, flush=True)
    for result in failures:
        print(result["what"])
    cases = [result for result in results if "seconds" in result]
    held, loaded = (sum(case[name] for case in cases) for name in ("held", "loaded"))
    slowest = max(cases, key=lambda result: result["seconds"])
    print(
        f"{len(cases)} cases tried (seed {options.seed}): {held} held, of which "
        f"{loaded} loaded; at most {max(r['mib'] for r in cases)} MiB a process; slowest: "
        f"{slowest['seconds']:.1f} s, {slowest['what']}"
    )
    sys.exit(bool(failures))


def work(folder, seed, numbers):
    """Run cases in this process; a line of JSON says of each how it went."""
    warnings.simplefilter("ignore")
    # Whatever a case does to this process, it does to no other.
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MOST_MIB * 2**20,) * 2)
    from vae_anomaly import load_detector

    load_detector(folder / "table")
    for number in numbers:
        target = folder / f"case-{number}"
        what = craft(folder, target, number, random.Random(f"{seed} {number}"))
        start, loaded, error, before = time.perf_counter(), False, "", peak_mib()
        signal.alarm(2 * MOST_SECONDS)
        try:
            load_detector(target)
            loaded = True
        except ArtifactError as raised:
            error = "several lines" if "\n" in str(raised) else ""
        except BaseException:
            error = traceback.format_exc()
        seconds = time.perf_counter() - start
        signal.alarm(10 * MOST_SECONDS)
        if number < len(CRAFTED) or number % 20 == 0:
            load_detector(folder / "given")  # whatever was refused, a good one still loads
        mib = peak_mib()
        if seconds > MOST_SECONDS or mib > max(MOST_MIB, before):
            error += f"{seconds:.0f} s, {mib} MiB"
        shutil.rmtree(target)
        result = {"held": not error, "loaded": loaded, "seconds": seconds, "mib": mib}
        print(
            json.dumps({**result, "next": number + 1, "what": f"case {number}, {what}: {error}"}),
            flush=True,
        )


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def craft(folder, target, number, rng):
    """Write the folder of a case; return in words what it is."""
    if number < len(CRAFTED):
        case = CRAFTED[number]
        shutil.copytree(folder / case.__name__.split("_")[0], target)
        case(target)
        return case.__name__
    name = rng.choice(("table", "autoencoder", "images", "given"))
    shutil.copytree(folder / name, target)
    damage = rng.choice((bytes_of_a_file, json_members, json_members, archive, network))
    return f"{name}, {damage.__name__}: {damage(target, rng)}"


def bytes_of_a_file(target, rng):
    path = target / rng.choice(FILES)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 100))):
        place = rng.randrange(len(content))
        how = rng.randrange(4)
        if how == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            del content[place : place + rng.choice((1, 10, 10**6))]
        elif how == 2:
            content[place:place] = rng.randbytes(rng.choice((1, 10, 1000)))
        else:
            content[place : place + 1] = content[: rng.randrange(len(content))][:100_000]
        content = content or bytearray(b"\0")
    path.write_bytes(content)
    if rng.random() < 0.7:
        seal(target)
    return path.name


def json_members(target, rng):
    content = json.loads((target / "detector.json").read_text())
    said = [change(content, rng) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    write_json(target, content)
    return said


def network(target, rng):
    content = json.loads((target / "detector.json").read_text())
    model = content["model"]
    name = rng.choice(("encoder", "decoder"))
    config = json.loads(model[name] or '{"class_name": "Functional", "config": {"layers": []}}')
    said = [change(config, rng) for _ in range(rng.choice((1, 1, 2)))]
    model[name] = json.dumps(config)
    write_json(target, content)
    return [name, *said]


def change(content, rng):
    """Change a member somewhere in plain data; return where and to what."""
    places = []

    def visit(value, path):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            places.append((value, key, [*path, key]))
            if isinstance(item, (dict, list)):
                visit(item, [*path, key])

    visit(content, [])
    if not places:
        return "nothing"
    parent, key, path = rng.choice(places)
    how = rng.randrange(10)
    if how == 0:
        del parent[key]
        return [path, "deleted"]
    if how == 1 and isinstance(parent, list):
        parent *= rng.choice((2, 100))
        return [path, "repeated"]
    value = copy.deepcopy(rng.choice(HOSTILE))
    if how == 2:
        value = copy.deepcopy(rng.choice(places)[0])
    elif how == 3 and isinstance(parent[key], (int, float)):
        value = parent[key] * rng.choice((-1, 2, 10, 10**6)) + rng.choice((0, 1))
    parent[key] = value
    return [path, repr(value)[:60]]


def archive(target, rng):
    arrays = weights(target)
    name = rng.choice(sorted(arrays))
    how = rng.choice(("deflated", "renamed", "reshaped", "retyped", "gone", "doubled", "header"))
    if how == "renamed":
        arrays[rng.choice(("", "scorer/noise", "../x", "encoder/a/b" * 50))] = arrays.pop(name)
    elif how == "reshaped":
        arrays[name] = np.zeros(rng.choice(((), (0,), (3, 3), (1, 2, 3, 4), (2, 0))))
    elif how == "retyped":
        kind = rng.choice(("f2", "f4", "f8", "i8", "u1", "?", "c16", "S3", "U5", "V4", ">f8"))
        arrays[name] = np.zeros(arrays[name].shape, kind)
    elif how == "gone":
        del arrays[name]
    members = {f"{key}.npy": npy(array) for key, array in arrays.items()}
    if how == "header":
        content = bytearray(members[f"{name}.npy"])
        for _ in range(3):
            content[rng.randrange(min(128, len(content)))] = rng.randrange(256)
        members[f"{name}.npy"] = bytes(content)
    write_archive(target, members, zipfile.ZIP_DEFLATED if how == "deflated" else 0)
    if how == "doubled":
        with warnings.catch_warnings(), zipfile.ZipFile(target / "weights.npz", "a") as file:
            warnings.simplefilter("ignore")
            file.writestr(f"{name}.npy", members[f"{name}.npy"])
        seal(target)
    return [how, name]


# Crafted folders; the first word of a name is that of the detector.


def table_with_wide_layers(target):
    edit(target, model={"hidden_units": [20000, 20000]})


def table_with_many_layers(target):
    edit(target, model={"hidden_units": [4] * 1500})


def table_with_as_many_layers_as_are_allowed(target):
    edit(target, model={"hidden_units": [65536] * 64})


def table_with_many_draws(target):
    edit(target, scorer={"n_draws": 10**8})


def table_with_many_calibration_scores(target):
    edit(target, scorer={"n_calibration": 10**8})


def table_with_a_million_levels(target):
    content = json.loads((target / "detector.json").read_text())
    content["scorer"]["preprocessor"]["levels"]["city"] = [f"{i}" for i in range(10**6)]
    write_json(target, content)


def table_with_wide_columns(target):
    edit(target, model={"column_widths": [250000] * 10000})


def table_with_many_categories(target):
    content = json.loads((target / "detector.json").read_text())
    names = [f"c{i}" for i in range(1000)]
    content["scorer"]["preprocessor"] |= {
        "kinds": dict.fromkeys(names, "categorical"),
        "levels": {name: ["a"] for name in names},
    }
    write_json(target, content)


def table_with_a_function_of_keras(target):
    edit(target, model={"activation": "get_file"})


def table_with_deep_json(target):
    (target / "detector.json").write_text("[" * 10**6 + "]" * 10**6)
    seal(target)


def table_with_deep_parameters(target):
    text = (target / "detector.json").read_text()
    text = text.replace('"params": {', '"params": {"a": ' + "[" * 900 + "]" * 900 + ",", 1)
    (target / "detector.json").write_text(text)
    seal(target)


def table_with_many_small_lists(target):
    (target / "detector.json").write_text("[" + "[]," * (5 * 2**20) + "[]]")
    seal(target)


def table_with_too_much_json(target):
    sparse(target / "detector.json", 60 * 2**30)


def table_with_a_sparse_manifest(target):
    sparse(target / "manifest.json", 60 * 2**30)


def table_with_sparse_weights(target):
    sparse(target / "weights.npz", 60 * 2**30)


def table_with_a_gibibyte_of_zeros(target):
    sparse(target / "weights.npz", 2**30)
    seal(target, {"weights.npz": zeros_sha256(2**30)})


def table_with_compressed_gigabytes(target):
    members = {f"{name}.npy": npy(array) for name, array in weights(target).items()}
    members["scorer/noise.npy"] = bytes(64 * 2**20)
    write_archive(target, members, zipfile.ZIP_DEFLATED)
    content = (target / "weights.npz").read_bytes()
    size = (64 * 2**20).to_bytes(4, "little")
    (target / "weights.npz").write_bytes(content.replace(size, (3 * 2**30).to_bytes(4, "little")))
    seal(target)


def table_with_a_header_of_a_trillion_values(target):
    members = {f"{name}.npy": npy(array) for name, array in weights(target).items()}
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    text = f"{header!r}".ljust(117).encode() + b"\n"
    magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    members["scorer/calibration_scores.npy"] = magic + text
    write_archive(target, members)


def table_with_many_members(target):
    write_archive(target, {f"{index}.npy": b"" for index in range(200_000)})


def table_with_a_pickle(target):
    objects = {name: array.astype(object) for name, array in weights(target).items()}
    write_archive(target, {f"{name}.npy": npy(array) for name, array in objects.items()})


def table_with_a_pipe(target):
    import os

    for name in FILES:
        (target / name).unlink()
        os.mkfifo(target / name)


def table_with_links_to_devices(target):
    for name in ("detector.json", "weights.npz"):
        (target / name).unlink()
        (target / name).symlink_to("/dev/zero")


def table_with_folders_for_files(target):
    for name in FILES:
        (target / name).unlink()
        (target / name).mkdir()


def images_with_huge_images(target):
    for shape in ([8192, 8192, 8192],):
        content = json.loads((target / "detector.json").read_text())
        content["model"]["image_shape"] = shape
        content["scorer"]["preprocessor"]["image_shape"] = shape
        write_json(target, content)


def images_with_the_largest_images(target):
    content = json.loads((target / "detector.json").read_text())
    content["model"]["image_shape"] = [4096, 4096, 1]
    content["scorer"]["preprocessor"]["image_shape"] = [4096, 4096, 1]
    write_json(target, content)


def given_with_large_dense_layers(target):
    def wide(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Dense":
                layer["config"]["units"] = 10**9

    edit_network(target, wide)


def given_with_many_layers(target):
    def many(config):
        layers = config["config"]["layers"]
        layers += [layers[1]] * 5000

    edit_network(target, many)


def given_with_a_file_as_vocabulary(target):
    def lookup(config):
        config["config"]["layers"][1].update(
            class_name="StringLookup", config={"vocabulary": "/etc/passwd", "name": "a"}
        )

    edit_network(target, lookup)


def given_with_a_function_for_an_activation(target):
    def function(config):
        config["config"]["layers"][1]["config"]["activation"] = {
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "function",
        }

    edit_network(target, function)


def given_with_a_huge_constant(target):
    def ones(config):
        config["config"]["layers"][1] = {
            "module": "keras.src.ops.numpy",
            "class_name": "Ones",
            "config": {"name": "ones"},
            "registered_name": "Ones",
            "name": "ones",
            "inbound_nodes": [{"args": [[10**6, 10**6]], "kwargs": {}}],
        }

    edit_network(target, ones)


def given_with_a_long_recurrence(target):
    def unrolled(config):
        layer = config["config"]["layers"][1]
        layer["class_name"] = "LSTM"
        layer["config"] = {"name": layer["config"]["name"], "units": 4, "unroll": True}

    edit_network(target, unrolled)


CRAFTED = [
    function
    for name, function in globals().items()
    if name.startswith(("table_with", "images_with", "given_with"))
]


def edit(target, **parts):
    content = json.loads((target / "detector.json").read_text())
    for part, members in parts.items():
        content[part].update(members)
    write_json(target, content)


def edit_network(target, change_of):
    content = json.loads((target / "detector.json").read_text())
    config = json.loads(content["model"]["encoder"])
    change_of(config)
    content["model"]["encoder"] = json.dumps(config)
    write_json(target, content)


def write_json(target, content):
    (target / "detector.json").write_text(json.dumps(content))
    seal(target)


def weights(target):
    with np.load(target / "weights.npz") as file:
        return dict(file)


def npy(array):
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def write_archive(target, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(target / "weights.npz", "w", compression) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name or "x"), content, compression)
    seal(target)


def sparse(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


def zeros_sha256(size):
    import hashlib

    digest = hashlib.sha256()
    for _ in range(size // 2**20):
        digest.update(bytes(2**20))
    return digest.hexdigest()


def seal(target, known=None):
    """Make the hashes in the manifest right again, where there is one."""
    import hashlib

    try:
        manifest = json.loads((target / "manifest.json").read_bytes())
        hashes = manifest["sha256"]
    except (ValueError, KeyError, TypeError):
        return
    for name in ("detector.json", "weights.npz"):
        digest = (known or {}).get(name)
        hashes[name] = digest or hashlib.sha256((target / name).read_bytes()).hexdigest()
    (target / "manifest.json").write_text(json.dumps(manifest))


if __name__ == "__main__":
    main()
