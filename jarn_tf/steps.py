"""A Keras model with several kinds of training step, each compiled by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from jarn_tf import checks


class ModelOfSteps(keras.Model):
    """Picks the kind of each training step on the host, from the number of steps before it.

    A condition inside one compiled step is no way out: under `MirroredStrategy` TensorFlow refuses
    an optimizer inside `tf.cond`, and gradients masked to zero would still move the optimizer's
    moments.

    Subclasses say `step`, `kind_of_step` and `train_step(data, kind)`.
    """

    #: Attributes that steps are compiled with; a new value takes effect at the next step.
    SETTINGS: tuple[str, ...] = ()

    @property
    def step(self) -> tf.Tensor:
        """Number of training steps so far."""
        raise NotImplementedError

    def kind_of_step(self, step: int) -> str:
        """The kind of training step number `step`, counted from 0."""
        raise NotImplementedError

    def check_settings(self) -> None:
        """Raises ValueError unless every one of `SETTINGS` has a value that it may have."""

    def make_train_function(self, force: bool = False) -> None:
        """Compiles each kind of step by itself and picks one on the host before each step.

        They are compiled anew once one of `SETTINGS` has another value.
        """
        if self.train_function is not None and not force:
            return
        compiled: dict[str, Callable] = {}
        compiled_with: dict[str, Any] = {}

        def train_function(iterator):
            settings = {name: _comparable(getattr(self, name)) for name in self.SETTINGS}
            if settings != compiled_with:
                self.check_settings()
                compiled.clear()
                compiled_with.update(settings)
            return self._execution(steps_of_a_kind, iterator)

        def steps_of_a_kind(iterator, most):
            step = int(self.step)
            kind = self.kind_of_step(step)
            if kind not in compiled:
                compiled[kind] = self._compiled(functools.partial(self.train_step, kind=kind))
            others = (n for n in range(1, most) if self.kind_of_step(step + n) != kind)
            return compiled[kind](iterator, next(others, most))

        self.train_function = train_function

    def make_test_function(self, force: bool = False) -> None:
        if self.test_function is None or force:
            steps = self._compiled(self.test_step)
            self.test_function = functools.partial(self._execution, steps)

    def _execution(self, steps: Callable, iterator: Any) -> dict[str, tf.Tensor]:
        """The metrics after `steps_per_execution` steps, fewer where the data ends."""
        left, logs = self.steps_per_execution, None
        while left:
            try:
                done, logs = steps(iterator, left)
            except StopIteration:
                if logs is None:
                    raise
                break
            except ValueError:
                # What has failed while it was traced may make variables no more.
                self.train_function = self.test_function = None
                raise
            left -= done
        return logs

    def _compiled(self, step_function: Callable) -> Callable:
        """A function of an iterator and a number that takes up to so many steps, at least one.

        It returns how many steps it took, and the metrics after them.
        """
        reported: list[str] = []  # known once a step has been traced

        def results():
            values = self.get_metrics_result()
            return {name: values[name] for name in reported}

        @tf.autograph.experimental.do_not_convert
        def one_step(data):
            reported[:] = self.distribute_strategy.run(step_function, args=(data,))
            # Read here, where the metrics of all replicas are summed, not inside each replica.
            return results()

        @tf.autograph.experimental.do_not_convert
        def next_steps(iterator, most):
            def batch_after(done):
                # Not `get_next`: where the data ends, parts of a step would run without a batch.
                none = functools.partial(tf.experimental.Optional.empty, iterator.element_spec)
                return tf.cond(done < most, iterator.get_next_as_optional, none)

            def step(done, batch):
                one_step(batch.get_value())
                return done + 1, batch_after(done + 1)

            start = tf.constant(0), batch_after(0)
            done, _ = tf.while_loop(lambda done, batch: batch.has_value(), step, start)
            return done, results()

        if not self.run_eagerly:
            one_step = tf.function(one_step, reduce_retracing=True, jit_compile=self.jit_compile)
            next_steps = tf.function(next_steps, reduce_retracing=True)

        def function(iterator, most):
            with checks.as_value_error():
                self.build_metrics(iterator)
                if most == 1 or not _in_one_call(iterator):
                    return 1, one_step(next(iterator))
                done, logs = next_steps(iterator, tf.constant(most))
                if not done:
                    raise StopIteration
                return int(done), logs

        return function

    def build_metrics(self, iterator: Any) -> None:
        """Has the metrics make their variables before a step on an iterator's batches is traced.

        A function that makes variables while it is traced is traced twice, which of a deep
        classifier is half of what its first step takes.
        """
        if not isinstance(iterator, tf.data.Iterator):
            return
        _, labels, weights = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)
        if labels is None or all(getattr(metric, "built", True) for metric in self.metrics):
            return
        classes = self.output_shape[-1]
        if labels.shape.rank == 1 or labels.shape[1:] == [1]:
            labels = tf.zeros([1], labels.dtype)
        elif labels.shape[1:] == [classes]:
            labels = tf.zeros([1, classes], labels.dtype)
        else:
            return  # of a generator
        weights = None if weights is None else tf.ones([1])
        try:
            self.compute_metrics(None, labels, tf.zeros([1, classes]), weights)
        except ValueError as error:  # Keras looks at what `compile` was given as late as here
            what = str(error).splitlines()[0].rstrip(".")
            raise ValueError(f"The metrics given to compile cannot be computed: {what}.") from None
        self.reset_metrics()

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Shows Keras the shape of one replica's batch, from which it builds the metrics.

        Overrides a private method of keras 3.15, which averages the batch over the replicas for
        the same purpose and fails under `MultiWorkerMirroredStrategy` (cannot convert PerReplica).
        """
        if self._distribute_strategy is None or iterator is None:
            return
        for _, _, batches in iterator:
            batch = next(batches)
            break
        local = self.distribute_strategy.experimental_local_results
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=tf.nest.map_structure(lambda v: local(v)[0], batch))


def _in_one_call(iterator: Any) -> bool:
    """Whether several steps may take their batches within a compiled call.

    A strategy's iterator and the generator of `train_on_batch` may not, nor batches of unknown
    rank, whose shapes are known when they come.
    """
    return isinstance(iterator, tf.data.Iterator) and all(
        spec.shape.rank is not None for spec in tf.nest.flatten(iterator.element_spec)
    )


def _comparable(setting: Any) -> Any:
    """A value that differs once the setting does, also where its object is changed in place."""
    return (setting, setting.get_config()) if hasattr(setting, "get_config") else setting
