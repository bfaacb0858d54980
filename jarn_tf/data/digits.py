"""scikit-learn's digits, which every installation has."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from jarn_tf.data.split import Split


def load() -> tuple[Split, Split, int]:
    """Training split, test split and number of classes: 80 % and 20 %, always the same."""
    # Imported here: it takes longer than the rest of the library.
    import sklearn.datasets
    import sklearn.model_selection

    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = tf.image.resize(images.reshape(-1, 8, 8, 1) / 16, (28, 28)).numpy()
    images = np.round(images * 255).astype(np.uint8)
    train_images, test_images, train_labels, test_labels = sklearn.model_selection.train_test_split(
        images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=0
    )
    return Split(train_images, train_labels), Split(test_images, test_labels), 10
