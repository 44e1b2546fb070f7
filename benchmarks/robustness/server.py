"""Attack the development server: mutated REST bodies, from this machine to this machine.

    python benchmarks/robustness/server.py                      # a minute
    python benchmarks/robustness/server.py --bodies 20000

A case holds if a status of 200 or 4xx comes back within a minute, as JSON, and the server answers
a sound request after the attack as it did before. Cases are made from the seed and their number
alone. The server is the command of this package with ``saved_models``, in a process of its own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

MODELS = pathlib.Path(__file__).parents[2] / "saved_models"
PATH = "/v1/models/orders:predict"
ROW = {"amount_NOK": 450.0, "items": 3, "city": "Oslo", "member": -1e308, "ordered": 1740000000}
SOUND = json.dumps({"instances": [ROW] * 3}).encode()
MOST_SECONDS = 60
# fmt: off
ODD = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"null",
    b"NaN", b"Infinity", b"-1e999", b"1e-999", b"true", b"-0", b"01", b'"\\ud800"', b'{"b64":"a"}',
    b"/* */", b"[" * 20_000, b"[]," * 50_000, b"[]," * 1_500_000, b"1" * 5000,
    b'"' + b"x" * 100_000 + b'"',
]
VALUES: list = [
    None, True, -1, 0, 2**53, 2**63, 10**400, 1e308, "", "x" * 10_000, "\ud800", [], {}, [[]],
    {"b64": "!"}, {"b64": "AA=="}, [1, [2]], [[1], []], {"instances": [1]},
]
# fmt: on


def changed_bytes(rng):
    """A sound body with a few bytes put in, taken out or written over."""
    body = SOUND
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(body) + 1))
        end = place + int(rng.integers(0, 12))
        new = [b"", ODD[rng.integers(len(ODD))], rng.bytes(end - place)][rng.integers(3)]
        body = body[:place] + new + body[end:]
    return body


def changed_values(rng):
    """JSON with cells, rows, columns or the whole of it replaced."""

    def value():
        return VALUES[rng.integers(len(VALUES))]

    rows: list = [dict(ROW) for _ in range(rng.integers(0, 5))]
    columns: dict = {name: [cell] * int(rng.integers(0, 4)) for name, cell in ROW.items()}
    name = list(ROW)[rng.integers(len(ROW))]
    way = rng.integers(0, 6)
    if way == 0 and rows:
        rows[rng.integers(len(rows))][name] = value()
    elif way == 1 and rows:
        rows[rng.integers(len(rows))] = value()
    elif way == 2 and rows:
        del rows[rng.integers(len(rows))][name]
    elif way == 3:
        columns[name] = value()
    document: object = {"instances": rows} if way < 3 else {"inputs": columns}
    if way == 4:
        document = {["instances", "inputs", "signature_name", "x"][rng.integers(4)]: value()}
    elif way == 5:
        document = {"signature_name": ["explain", "latent", "matrix", "x", 1][rng.integers(5)]}
        document["instances"] = rows or value()
    return json.dumps(document).encode()


def body_of(seed, case):
    rng = np.random.default_rng([seed, case])
    return (changed_bytes if rng.random() < 0.5 else changed_values)(rng)


def ask(port, body):
    """Status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MOST_SECONDS)
    try:
        connection.request("POST", PATH, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def tried(port, seed, case):
    """What became of a case: '200' or '4xx', or a fault."""
    try:
        status, answer = ask(port, body_of(seed, case))
        json.loads(answer)
    except TimeoutError:
        return "hang"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return type(error).__name__
    return str(status)


def start():
    """The server, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_anomaly", "serve", str(MODELS), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(found[1])
    raise RuntimeError("Expected a server. Received none: the extra [serve] may be missing.")


def most_mib(process):
    """The most memory that the server has had, in MiB; of Linux."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    process, port = start()
    try:
        before, started = ask(port, SOUND), time.monotonic()
        with ThreadPoolExecutor(args.clients) as pool:
            found = Counter(pool.map(lambda case: tried(port, args.seed, case), range(args.bodies)))
        seconds, memory = time.monotonic() - started, most_mib(process)
        is_sound = ask(port, SOUND) == before and before[0] == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(MOST_SECONDS)
    held = sum(n for status, n in found.items() if re.fullmatch("200|4..", status))
    server_errors = sum(n for status, n in found.items() if re.fullmatch("5..", status))
    print(
        f"{args.bodies} bodies tried: {held} held, {server_errors} times 5xx, "
        f"{found['hang']} hangs; a sound one is answered as before: {is_sound}; "
        f"{memory} MiB at most, {seconds:.0f} s"
    )
    print("  " + ", ".join(f"{status}: {n}" for status, n in sorted(found.items())))
    return int(held < args.bodies or not is_sound)


if __name__ == "__main__":
    sys.exit(main())
