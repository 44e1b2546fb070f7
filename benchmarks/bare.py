"""A bare loop of matrix products: what the machine can do at a network's own shapes."""

import time
from typing import Any


def seconds(function, repeats=1, at_least=0.0):
    """Return the shortest of ``repeats`` runs, or of more until they took ``at_least``."""
    times: list[float] = []
    while len(times) < repeats or sum(times) < at_least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def compare_with_bare(detector, result):
    """Time the matrix products of a fitted detector, and nothing else; add ratios to them."""
    from vae_anomaly.scoring.tables import CHUNK_ROWS

    model, n_draws = detector.scorer_.model, detector.scorer_.n_draws
    networks = [
        [tuple(layer.kernel.shape) for layer in network.layers if hasattr(layer, "kernel")]
        for network in (model.encoder, model.decoder)
    ]
    batch_size, train_draws = result["batch_size"], getattr(model, "n_draws", 1)
    train_s, train_flop = bare_products(
        networks, [batch_size, batch_size * train_draws], n_loops=200, backward=True
    )
    score_s, score_flop = bare_products(networks, [CHUNK_ROWS, CHUNK_ROWS * n_draws], n_loops=20)
    square_s, square_flop = bare_products([[(2048, 2048)]], [2048], n_loops=2)
    train_bare, score_bare = batch_size / train_s, CHUNK_ROWS / score_s
    ratios = result["train_rows_per_s"] / train_bare, result["score_rows_per_s"] / score_bare
    return {
        "train_bare_rows_per_s": train_bare,
        "train_ratio": ratios[0],
        "train_gflops": ratios[0] * train_flop / train_s / 1e9,
        "score_bare_rows_per_s": score_bare,
        "score_ratio": ratios[1],
        "score_gflops": ratios[1] * score_flop / score_s / 1e9,
        "square_gflops": square_flop / square_s / 1e9,
    }


def operations(networks, network_rows, backward):
    """Return the floating-point operations of one pass over the networks' products."""
    flop = 0
    for index, (rows, shapes) in enumerate(zip(network_rows, networks, strict=True)):
        for layer, (n_in, n_out) in enumerate(shapes):
            # No gradient of the data is needed: one product less in the very first layer.
            n_products = (3 if index or layer else 2) if backward else 1
            flop += 2 * rows * n_in * n_out * n_products
    return flop


def bare_products(networks, network_rows, n_loops, backward=False):
    """Return seconds and floating-point operations of one pass over the networks' products.

    Loops in one graph, one pass after the other. Nothing can be folded or hoisted: the
    matrices are arguments, the first one of each network changes with the pass, and each
    product takes the result of the one before.
    """
    import tensorflow as tf  # here, since speed.py measures how long that takes

    kernels = [
        [tf.random.normal(shape, stddev=shape[0] ** -0.5) for shape in shapes]
        for shapes in networks
    ]
    starts = [
        tf.random.normal((rows, shapes[0][0]))
        for rows, shapes in zip(network_rows, networks, strict=True)
    ]

    def network_products(x, network, needs_dx):
        """Multiply forward and, for training, backward; return what nothing else consumes."""
        inputs: list[Any] = []
        outputs, ends = [], []
        for kernel in network:
            if x.shape[1] != kernel.shape[0]:
                ends.append(x)
                x = inputs[-1]  # a second head on the same layer
            inputs.append(x)
            x = tf.matmul(x, kernel)
            outputs.append(x)
        dy = x
        for layer in range(len(network) - 1, -1, -1) if backward else ():
            if dy.shape[1] != network[layer].shape[1]:
                ends.append(dy)
                dy = outputs[layer]
            ends.append(tf.matmul(inputs[layer], dy, transpose_a=True))
            if layer or needs_dx:
                dy = tf.matmul(dy, network[layer], transpose_b=True)
        return [*ends, dy]

    @tf.function(autograph=False)
    def loop(n_loops, starts, kernels):
        def one_pass(index, scale):
            for position, (x, network) in enumerate(zip(starts, kernels, strict=True)):
                network = [network[0] * scale, *network[1:]]
                ends = network_products(x, network, needs_dx=position > 0)
                # One element of each: what has no use is left out of a graph.
                scale = 1.0 + 1e-30 * tf.add_n([end[0, 0] for end in ends])
            return index + 1, scale

        return tf.while_loop(
            lambda index, _: index < n_loops, one_pass, (0, 1.0), parallel_iterations=1
        )

    loop(tf.constant(2), starts, kernels)
    loop_s = seconds(lambda: loop(tf.constant(n_loops), starts, kernels)[1].numpy(), at_least=2.0)
    return loop_s / n_loops, operations(networks, network_rows, backward)
