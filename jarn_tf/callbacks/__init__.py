"""Keras callbacks that watch training, warn of what goes wrong in it, and keep its results."""

from jarn_tf.callbacks.backup import Backup
from jarn_tf.callbacks.catastrophic_overfitting import CatastrophicOverfittingWarning
from jarn_tf.callbacks.collapse import CollapseWarning
from jarn_tf.callbacks.constant_adaptor import ConstantAdaptorWarning
from jarn_tf.callbacks.discriminator_won import DiscriminatorWonWarning
from jarn_tf.callbacks.epoch_line import EpochLine
from jarn_tf.callbacks.history_file import HistoryFile
from jarn_tf.callbacks.robust_accuracy import RobustAccuracy
from jarn_tf.callbacks.tensorboard import TensorBoard

__all__ = [
    "CatastrophicOverfittingWarning",
    "Backup",
    "CollapseWarning",
    "ConstantAdaptorWarning",
    "DiscriminatorWonWarning",
    "EpochLine",
    "HistoryFile",
    "RobustAccuracy",
    "TensorBoard",
]
