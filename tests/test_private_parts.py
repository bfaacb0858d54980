"""Private parts of Keras and TFDS that we override or read, listed in BUILD.md.

A new version that changes one of them fails here first, and says what to look at.
"""

import inspect

import keras
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import toys
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

from jarn_tf import Defense
from jarn_tf.callbacks import checkpoints


def changed(what, where):
    return f"Keras or TFDS has changed {what}: see `{where}` and 'Private parts' in BUILD.md"


def test_maybe_symbolic_build_is_called_by_fit_with_what_we_override():
    where = changed("Trainer._maybe_symbolic_build", "ModelOfSteps._maybe_symbolic_build")
    assert hasattr(TensorFlowTrainer, "_maybe_symbolic_build"), where
    parameters = list(inspect.signature(TensorFlowTrainer._maybe_symbolic_build).parameters)
    assert parameters == ["self", "iterator", "data_batch"], where
    assert "_maybe_symbolic_build(iterator=" in inspect.getsource(TensorFlowTrainer.fit), where


def test_symbolic_build_takes_a_batch():
    where = changed("Trainer._symbolic_build", "ModelOfSteps._maybe_symbolic_build")
    assert hasattr(keras.Model, "_symbolic_build"), where
    assert "data_batch" in inspect.signature(keras.Model._symbolic_build).parameters, where


def test_distribute_strategy_is_none_outside_of_a_scope():
    where = changed("Trainer._distribute_strategy", "ModelOfSteps._maybe_symbolic_build")
    model = Defense(toys.classifier())
    assert model.__dict__.get("_distribute_strategy", "missing") is None, where


@pytest.mark.parametrize("hook", ["make_train_function", "make_test_function"])
def test_fit_and_evaluate_call_the_hooks_that_compile_the_steps(hook):
    caller = "fit" if hook == "make_train_function" else "evaluate"
    source = inspect.getsource(getattr(TensorFlowTrainer, caller))
    assert f"self.{hook}()" in source, changed(f"Trainer.{hook}", f"ModelOfSteps.{hook}")


def test_keras_history_names_the_operation_of_an_output():
    where = changed("KerasTensor._keras_history", "checks.last_operation")
    last = keras.layers.Softmax()
    model = keras.Sequential([keras.Input((3,)), last])
    history = getattr(model.outputs[0], "_keras_history", None)
    assert getattr(history, "operation", None) is last, where
    assert last._inbound_nodes[history.node_index].input_tensors == [model.inputs[0]], where


def test_split_generators_of_svhn_are_a_method_of_its_builder():
    where = changed("builder._split_generators", "data.prepared._leave_out_extra")
    builder = tfds.builder_cls("svhn_cropped")
    assert "dl_manager" in inspect.signature(builder._split_generators).parameters, where
    assert '"extra"' in inspect.getsource(builder._split_generators), where


def test_an_optimizer_s_first_variable_counts_steps_that_accumulate_gradients():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=3)
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    optimizer.apply([tf.constant(1.0)], [weight])
    assert int(optimizer.variables[0]) == 1, changed("optimizer.variables[0]", "Defense.step")
    assert int(optimizer.iterations) == 0


def test_where_a_checkpoint_keeps_text(tmp_path):
    class State(tf.train.experimental.PythonState):
        def serialize(self):
            return "text"

        def deserialize(self, string_value):
            pass

    path = tf.train.Checkpoint(progress=State()).save(str(tmp_path / "ckpt"))
    kept = tf.train.load_checkpoint(path).get_tensor(checkpoints.PROGRESS)
    assert kept == b"text", changed("PythonState", "callbacks/checkpoints.py")
