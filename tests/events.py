"""What lies in a folder for TensorBoard."""

import tensorflow as tf


def written(folder):
    """Tag to its steps and values, in the order in which they were written."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found


def pictures(folder):
    """Steps and arrays [height, width, 3] of the tag `jacobians`."""
    return [
        (step, tf.io.decode_png(value[2]).numpy()) for step, value in written(folder)["jacobians"]
    ]
