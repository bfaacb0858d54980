"""`evaluate`: a trained classifier under attack, all that `launch.evaluate` calls."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import keras

from jarn_tf import arguments, data, evaluation
from jarn_tf.digests import digest_of_model
from jarn_tf.evaluation import Attack
from jarn_tf.files import write_atomically
from jarn_tf.resume import Parts
from jarn_tf.runs import attacked, evaluations, summaries
from jarn_tf.runs.config import declarations
from jarn_tf.runs.presets import preset
from jarn_tf.runs.saved import classifier_for_dataset, load_classifier
from jarn_tf.runs.workdir import Workdir, locked, refuse_unwritable, versions
from jarn_tf.workers import Workers

#: Images that the masking verdict is judged from.
_JUDGED = 500


@dataclasses.dataclass(frozen=True)
class Target:
    """A classifier to evaluate, on the test images of a dataset.

    Attributes:
        model: Keras model from images in [0, 1] to logits, unless the next two say otherwise.
        dataset: Name of the dataset.
        data_dir: TFDS folder, or None.
        examples: The first so many test images; None for all.
        epsilon: Radius to attack with unless told.
        output: Folder of `evaluation.json`.
        pixel_scale, probabilities: As in `as_classifier`.
        image_size, memory_share: As in `data.load`.
    """

    model: keras.Model
    dataset: str
    data_dir: str | None
    examples: int | None
    epsilon: float
    output: pathlib.Path
    pixel_scale: float = 1.0
    probabilities: bool = False
    image_size: int | None = None
    memory_share: float = 0.5

    def classifier(self, dataset: data.Dataset) -> keras.Model:
        """The model as a classifier of the dataset's images. ValueError if it does not fit them."""
        return classifier_for_dataset(
            self.model,
            self.dataset,
            dataset.image_shape,
            dataset.classes,
            self.pixel_scale,
            self.probabilities,
        )


def finished_run(workdir: str | os.PathLike) -> Target:
    """The classifier of a finished run. ValueError if the folder holds none."""
    run = Workdir(pathlib.Path(workdir))
    settings = run.settings()
    for name in ("dataset", "data_dir", "test_examples", "epsilon", "image_size"):
        try:
            declarations()[name].check(name, settings.get(name))
        except ValueError as error:
            raise ValueError(f"{run.config} is not that of a run: {error}") from None
    if not run.classifier.exists():
        raise ValueError(f"The run in {workdir} is not finished. Run its training command again.")
    return Target(
        load_classifier(run.classifier),
        settings["dataset"],
        settings["data_dir"],
        settings["test_examples"],
        settings["epsilon"],
        run.path,
        image_size=settings["image_size"],
    )


def saved_model(
    path: str | os.PathLike,
    dataset: str,
    output: str | os.PathLike,
    pixel_scale: float = 1.0,
    probabilities: bool = False,
) -> Target:
    """A model of the user's own, or a saved `Defense`. ValueError if it cannot be loaded."""
    return Target(
        load_classifier(path),
        dataset,
        None,
        None,
        preset(dataset).epsilon,
        pathlib.Path(output),
        pixel_scale,
        probabilities,
    )


def evaluate(
    target: Target,
    list_of_attacks: Sequence[Attack],
    examples: int | None = None,
    data_dir: str | None = None,
    verdict_epsilon: float | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    command: str | None = None,
) -> dict:
    """Attacks a classifier on test images and adds what it finds to `evaluation.json`.

    Beside it `adversarial/epsilon_E.npz` of each radius, see `evaluation.robustness`, pictures of
    them in `figures/attacked.png`, a text for TensorBoard in `test/`, and, with a verdict,
    `figures/verdict.png`. While it runs, `evaluation_state/` holds what is done: the same call
    continues an interrupted evaluation and ends with the same results.

    Args:
        target: The classifier and what to evaluate it on.
        list_of_attacks: The attacks; clean accuracy comes first by itself.
        examples: The first so many test images; None for the target's.
        data_dir: TFDS folder; None for the target's.
        verdict_epsilon: Radius to judge gradient masking at, on the first 500 images; None for no
            verdict.
        seed: Seed of the verdict.
        workers: What the attacks are divided over. All read `target.output`, the first writes.
        command: The command line behind the call, noted in the evaluation.

    Returns:
        The evaluation, as `runs.evaluations` says.

    Raises:
        ValueError: The classifier does not fit the dataset's images, it does not return logits, or
            the folder holds another evaluation, unfinished.
        FileNotFoundError: The dataset is not there and cannot be fetched.
        ConnectionError: Another worker is gone.
    """
    workers = workers or Workers()
    refuse_unwritable(target.output)
    if verdict_epsilon is not None:
        arguments.positive("The radius of a verdict", verdict_epsilon)
    dataset = data.load(
        target.dataset,
        data_dir or target.data_dir,
        test_examples=target.examples if examples is None else examples,
        image_size=target.image_size,
        memory_share=target.memory_share,
        test_only=True,
    )
    classifier, test = target.classifier(dataset), dataset.test
    with workers.together():
        parts = _parts(target, classifier, test, list_of_attacks, verdict_epsilon, seed, workers)
        workers.agree(parts.identity)
        output = target.output if workers.first else None
        with workers.first_holds(locked(target.output)):
            found = measured(classifier, target.dataset, test, list_of_attacks, parts, output)
            found["command"] = command
            print(f"\n{evaluation.report_text(found)}\n")
            verdict = None
            if verdict_epsilon is not None:
                verdict = _judge(classifier, test.first(_JUDGED), verdict_epsilon, seed, parts)
                found["verdict"] = verdict.as_dict()
            if output:
                _draw_attacked(target, classifier, test)
                if verdict:
                    _draw_verdict(target, verdict)
                evaluations.add(output, found)
                summaries.write_evaluations(Workdir(output))
                parts.discard()
    return found


def measured(
    classifier: keras.Model,
    dataset: str,
    test: data.Split,
    list_of_attacks: Sequence[Attack],
    parts: Parts | None = None,
    output: pathlib.Path | None = None,
) -> dict:
    """One evaluation, without a verdict, in the form of `runs.evaluations`.

    Args:
        classifier: Keras model from images in [0, 1] to logits.
        dataset: Name of the dataset.
        test: The images to attack.
        list_of_attacks: The attacks.
        parts: As in `evaluation.robustness`.
        output: Folder that gets `adversarial/`; None for none.
    """
    save_to = None if output is None else Workdir(output).adversarial
    of = (classifier, test.floats, test.labels, list_of_attacks, parts, save_to)
    return {
        "dataset": dataset,
        **evaluation.report(*of),
        "model": digest_of_model(classifier),
        "data": test.digest,
        "versions": versions(),
    }


def _parts(
    target: Target,
    classifier: keras.Model,
    test: data.Split,
    list_of_attacks: Sequence[Attack],
    verdict_epsilon: float | None,
    seed: int,
    workers: Workers,
) -> Parts:
    return Parts(
        target.output / "evaluation_state",
        {
            "model": digest_of_model(classifier),
            "data": test.digest,
            "epsilon": sorted({attack.epsilon for attack in list_of_attacks}),
            "attacks": sorted({attack.name for attack in list_of_attacks}),
            "verdict_epsilon": verdict_epsilon,
            "seed": seed,
            "versions": versions(),
            "settings": [dataclasses.asdict(attack) for attack in list_of_attacks],
        },
        workers,
    )


def _judge(
    classifier: keras.Model, judged: data.Split, epsilon: float, seed: int, parts: Parts
) -> evaluation.Verdict:
    """The masking verdict, printed."""
    verdict = evaluation.masking_verdict(
        classifier,
        judged.floats,
        judged.labels,
        epsilon=epsilon,
        seed=seed,
        progress=True,
        parts=parts,
    )
    print(f"{evaluation.verdict_text(verdict)}\n")
    return verdict


def _draw_attacked(target: Target, classifier: keras.Model, test: data.Split) -> None:
    run = Workdir(target.output)
    title = f"{target.dataset}: the first test images that are classified right"
    _draw(run.attacked, lambda path: attacked.draw(path, run.adversarial, classifier, test, title))


def _draw_verdict(target: Target, verdict: evaluation.Verdict) -> None:
    title = (
        f"{target.dataset}, first {verdict.examples} test images: gradients {verdict.label}"
        f" at {verdict.epsilon:.3g}"
    )
    _draw(
        Workdir(target.output).verdict,
        lambda path: evaluation.verdict_figure(path, verdict.accuracies, verdict.epsilon, title),
    )


def _draw(figure: pathlib.Path, draw: Callable[[pathlib.Path], None]) -> None:
    figure.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(figure, draw)
    print(f"Figure: {figure}")
