"""Command line: flags to settings to one call of `jarn_tf.runs` or `jarn_tf.reproduction`.

Flags are made from settings, which need the standard library alone. What works on models needs
TensorFlow, which takes seconds to import, so a command imports it once its flags are read:
`import_library`.
"""

import importlib.util
import os
import signal
import sys
import warnings
from typing import Any


def _put_library_off() -> None:
    """Makes modules of `jarn_tf` importable before `jarn_tf/__init__.py` is run.

    Python runs it for the first of them, and it imports all that saved models name.
    """
    if "jarn_tf" in sys.modules:
        return
    library = importlib.util.module_from_spec(importlib.util.find_spec("jarn_tf"))

    def whole(name: str) -> Any:
        # `from jarn_tf import arguments` asks here first, and takes the module after that.
        if name.startswith("__") or importlib.util.find_spec(f"jarn_tf.{name}"):
            raise AttributeError(f"module 'jarn_tf' has no attribute {name!r}")
        import_library()
        return getattr(library, name)

    library.__getattr__ = whole
    sys.modules["jarn_tf"] = library


def import_library() -> None:
    """Imports TensorFlow, quietly, and runs `jarn_tf/__init__.py` where that was put off."""
    _import_tensorflow()
    library = sys.modules["jarn_tf"]
    if vars(library).pop("__getattr__", None):
        library.__spec__.loader.exec_module(library)
    from jarn_tf.evaluation import PixelScaleWarning

    warnings.simplefilter("ignore", PixelScaleWarning)  # what is printed says it


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
    # What SIGTERM has printed would be lost, too.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    standard_error = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_put_library_off()
