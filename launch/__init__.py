"""Command line: flags to a configuration to one call of `jarn_tf.experiment`."""
