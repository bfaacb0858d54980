"""The paper's networks and a compact one as plain Keras models; any that fits serves as well."""

from jarn_tf.networks.adaptor import adaptor
from jarn_tf.networks.compact_cnn import compact_cnn
from jarn_tf.networks.discriminator import discriminator
from jarn_tf.networks.mnist_cnn import mnist_cnn
from jarn_tf.networks.wide_resnet import wide_resnet

__all__ = ["adaptor", "compact_cnn", "discriminator", "mnist_cnn", "wide_resnet"]
