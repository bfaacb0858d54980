"""Command line: flags to settings to one call of `jarn_tf.runs` or `jarn_tf.reproduction`."""

import os
import sys


def _import_tensorflow() -> None:
    """Imports TensorFlow with oneDNN, and without its notes on missing GPUs and processor features.

    While it is imported its C++ part writes them to standard error whatever the log level is, and
    they would bury the one line that an error here consists of.

    oneDNN is turned on where TensorFlow leaves it off, on processors without AVX-512: there its own
    gradient of a convolution with many channels on few pixels takes a hundred times as long.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    standard_error = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


_import_tensorflow()
