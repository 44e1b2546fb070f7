"""Load on the development server: latency and requests per second of several clients.

A network of the shape of the default one for 30 columns, untrained, behind the same server in four
ways; or any model that is laid out for TensorFlow Serving, with ``--url`` any server of one.
"""

import argparse
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

# What a server needs is imported in its process.

N_COLUMNS = 30


def save(folder):
    """The network as a Keras file, as a SavedModel of a matrix and as one of named columns."""
    import keras
    import tensorflow as tf

    widths = (128, 128, 16, 128, 128)
    network = keras.Sequential(
        [
            keras.Input((N_COLUMNS,)),
            *(keras.layers.Dense(width, activation="relu") for width in widths),
            keras.layers.Dense(N_COLUMNS),
        ]
    )
    network.save(folder / "network.keras")
    names = [f"c{index}" for index in range(N_COLUMNS)]

    class Network(tf.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        @tf.function(input_signature=[tf.TensorSpec([None, N_COLUMNS], tf.float32, name="x")])
        def matrix(self, x):
            return {"y": self.network(x)}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float64, name=name) for name in names]
        )
        def columns(self, *columns):
            return {"y": self.network(tf.cast(tf.stack(columns, axis=1), tf.float32))}

    module = Network()
    for name in ("matrix", "columns"):
        tf.saved_model.save(
            module, str(folder / "served" / name / "1"), signatures=getattr(module, name)
        )


def server(folder, contender):
    """Serve until killed; the first line says at which port."""
    import keras
    import numpy as np
    import uvicorn

    from vae_anomaly.serving.dev_server import app, serve
    from vae_anomaly.serving.dev_server.folder import ServedFolder
    from vae_anomaly.serving.dev_server.model import ServedModel

    class KerasPredict(ServedModel):
        network = keras.models.load_model(folder / "network.keras")

        def run(self, signature, arrays):
            return {"y": self.network.predict(arrays["x"], verbose=0)}

    class WithoutGraph(ServedModel):
        def run(self, signature, arrays):
            return {"y": np.tanh(arrays["x"])}

    load = {"Keras predict": KerasPredict, "without the graph": WithoutGraph}
    models = ServedFolder(
        folder / "served",
        load=load.get(contender, ServedModel),
        report=lambda line: None,
    )
    models.poll(is_first=True)
    with serve.listen("127.0.0.1", 0) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app.create_app(models), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])


CONTENDERS = {
    "SavedModel": "matrix",
    "SavedModel, named columns": "columns",
    "Keras predict": "matrix",
    "without the graph": "matrix",
}


def instances(model, n_rows):
    import numpy as np

    rows = np.random.default_rng(0).normal(size=(n_rows, N_COLUMNS)).round(6).tolist()
    if model == "matrix":
        return rows
    return [{f"c{index}": value for index, value in enumerate(row)} for row in rows]


def load(url, body, n_clients, seconds):
    """Latencies in seconds of clients that each ask again once they have the answer."""
    parts = urllib.parse.urlsplit(url)
    latencies: list[float] = []
    stop = threading.Event()

    def client():
        connection = http.client.HTTPConnection(parts.netloc)
        while not stop.is_set():
            started = time.perf_counter()
            connection.request("POST", parts.path, body)
            response = connection.getresponse()
            answer = response.read()
            latencies.append(time.perf_counter() - started)
            if response.status != 200:
                raise RuntimeError(answer[:1000])

    threads = [threading.Thread(target=client) for _ in range(n_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return latencies, time.perf_counter() - started


def measure(name, url, rows_of, args):
    for n_rows in args.rows:
        body = json.dumps({"instances": rows_of(n_rows)}).encode()
        for n_clients in args.clients:
            load(url, body, n_clients, min(1.0, args.seconds))  # warm-up
            latencies, elapsed = load(url, body, n_clients, args.seconds)
            cuts = statistics.quantiles(latencies, n=100, method="inclusive")
            rate = len(latencies) / elapsed
            print(
                f"{name:26} {n_rows:5} {n_clients:8} {1e3 * cuts[49]:9.1f} {1e3 * cuts[98]:9.1f} "
                f"{rate:11.1f} {rate * n_rows:9.0f}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", choices=CONTENDERS, action="append")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 256])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--url", help="a running server's .../v1/models/NAME:predict")
    parser.add_argument("--request", type=pathlib.Path, help="JSON with 'instances', for --url")
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if args.folder:  # in a process of its own
        server(args.folder, args.contender[0]) if args.contender else save(args.folder)
        return
    print(f"{'':26} {'rows':>5} {'clients':>8} {'p50 ms':>9} {'p99 ms':>9} ", end="")
    print(f"{'requests/s':>11} {'rows/s':>9}", flush=True)
    if args.url:
        sample = json.loads(args.request.read_text())["instances"]
        measure(
            "--url",
            args.url,
            lambda n_rows: [sample[index % len(sample)] for index in range(n_rows)],
            args,
        )
        return
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, __file__, "--folder", temporary]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        for name in args.contender or CONTENDERS:
            process = subprocess.Popen(
                [*command, "--contender", name],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            try:
                assert process.stdout is not None
                url = f"http://127.0.0.1:{int(process.stdout.readline())}"
                model = CONTENDERS[name]
                measure(
                    name,
                    f"{url}/v1/models/{model}:predict",
                    lambda n_rows, model=model: instances(model, n_rows),
                    args,
                )
            finally:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
