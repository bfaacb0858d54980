"""Small JARNs, and how to train them."""

import keras
import toys

from jarn_tf import JARN


def make(rate=0.5, eager=True, optimizer=keras.optimizers.SGD, **options):
    """Eager unless the test is about compiled steps: nothing is traced then, and that is quick."""
    model = JARN(
        options.pop("classifier", None) or toys.classifier(),
        options.pop("adaptor", None) or toys.adaptor(),
        options.pop("discriminator", None) or toys.discriminator(),
        **options,
    )
    model.compile(*(optimizer(rate) for _ in range(3)), run_eagerly=eager)
    return model


def fit(model, images, labels, weights=None, batch_size=8, epochs=1, callbacks=None):
    return model.fit(
        images,
        labels,
        batch_size,
        epochs,
        sample_weight=weights,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def darker(classifier, images, labels, batch):
    """A perturbation without randomness."""
    return 0.1 + 0.7 * images
