"""What training may run under of TensorFlow's ``tf.distribute`` strategies."""

import tensorflow as tf


def share_of_replica() -> float:
    """Return what a replica's mean loss counts: 1 / replicas, whose gradients are added up."""
    return 1.0 / tf.distribute.get_strategy().num_replicas_in_sync


def check_one_process(strategy: tf.distribute.Strategy) -> None:
    """Refuse strategies of several processes, in which Keras 3 cannot fit or evaluate models.

    Raises
    ------
    NotImplementedError
        With what to do instead.
    """
    resolver = getattr(strategy, "cluster_resolver", None)
    workers = resolver.cluster_spec().as_dict().get("worker", ()) if resolver else ()
    if len(workers) > 1:
        raise NotImplementedError(
            f"Expected a strategy of one process. Received: one of {len(workers)} workers, such as "
            "MultiWorkerMirroredStrategy, under which Keras 3 cannot fit models. Use "
            "MirroredStrategy, or call strategy.run(model.train_step, (batch,)) in a tf.function "
            "in a loop of your own."
        )


def check_one_replica(name: str) -> None:
    """Refuse the scope of a strategy of several replicas.

    Parameters
    ----------
    name : str
        What cannot run there.

    Raises
    ------
    NotImplementedError
        With what to do instead.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        raise NotImplementedError(
            f"Expected {name} outside of the scope of a strategy of several replicas. Received: "
            f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} replicas. Leave its "
            "scope: a detector trains on one device. vae_anomaly.vae.VAE.fit trains on several."
        )
