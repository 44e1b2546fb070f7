"""One version of a model: a SavedModel that is loaded, described and run."""

import pathlib

from google.protobuf import json_format

from vae_anomaly.serving.dev_server.refusals import RequestError

# Of http_server.cc; what is not here is 500.
_STATUS_CODES = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


class ServedModel:
    """One version of a model, loaded.

    Parameters
    ----------
    name : str
    version : int
    folder : path
        With ``saved_model.pb``. The meta graph with the tag 'serve' is loaded.

    Raises
    ------
    Exception
        Of any kind, if the folder is damaged.
    """

    def __init__(self, name, version, folder):
        import tensorflow as tf
        from tensorflow.core.framework import types_pb2
        from tensorflow.core.protobuf import saved_model_pb2

        self.name = name
        self.version = version
        saved = saved_model_pb2.SavedModel.FromString(
            (pathlib.Path(folder) / "saved_model.pb").read_bytes()
        )
        tags = [list(graph.meta_info_def.tags) for graph in saved.meta_graphs]
        if ["serve"] not in tags:
            raise ValueError(f"Expected a meta graph with the tag 'serve'. Received: {tags}.")
        self._signatures = dict(saved.meta_graphs[tags.index(["serve"])].signature_def)
        # The signatures' variables live as long as this does.
        self._loaded = tf.saved_model.load(str(folder), tags=["serve"])
        self._constant = tf.constant
        self._error = tf.errors.OpError
        self._inputs = {
            signature: {
                key: (
                    types_pb2.DataType.Name(info.dtype),
                    None
                    if info.tensor_shape.unknown_rank
                    else tuple(dim.size for dim in info.tensor_shape.dim),
                )
                for key, info in sorted(definition.inputs.items())
            }
            for signature, definition in self._signatures.items()
        }

    def inputs(self, signature):
        """Dtype and shape by name, as ``rest.to_arrays`` takes them.

        Parameters
        ----------
        signature : str

        Returns
        -------
        dict

        Raises
        ------
        RequestError
            400 if there is no such signature, or it takes nothing.
        """
        if signature not in self._inputs:
            raise RequestError(f'Serving signature name: "{signature}" not found in signature def')
        if not self._inputs[signature]:
            raise RequestError(f"Failed to get input map for signature: {signature}")
        return self._inputs[signature]

    def run(self, signature, arrays):
        """Run the graph.

        Parameters
        ----------
        signature : str
        arrays : dict of str to ndarray

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        RequestError
            With TensorFlow's own words, and TensorFlow Serving's status code for them.
        """
        dtypes = {name: dtype for name, (dtype, _) in self._inputs[signature].items()}
        try:
            outputs = self._loaded.signatures[signature](
                **{
                    # Without a dtype, no strings would become numbers.
                    name: self._constant(array, dtypes[name].removeprefix("DT_").lower())
                    for name, array in arrays.items()
                }
            )
            return {name: outputs[name].numpy() for name in sorted(outputs)}
        except self._error as error:
            raise RequestError(error.message, _STATUS_CODES.get(error_code(error), 500)) from None

    def metadata(self):
        """What ``GET .../metadata`` answers, as a dict."""
        signatures = {
            name: json_format.MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in sorted(self._signatures.items())
        }
        return {
            "model_spec": {
                "name": self.name,
                "signature_name": "",
                "version": str(self.version),
            },
            "metadata": {"signature_def": {"signature_def": signatures}},
        }


def error_code(error):
    """The name of TensorFlow's code for an error."""
    import tensorflow as tf

    codes = {value: key for key, value in vars(tf.errors).items() if isinstance(value, int)}
    return codes.get(getattr(error, "error_code", tf.errors.UNKNOWN), "UNKNOWN")
