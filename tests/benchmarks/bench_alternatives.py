"""One permutation of a whole analysis: ours against what a user would pick instead, in one run.

``python tests/benchmarks/bench_alternatives.py`` takes the published size (21 people with 100 samples, 28586
voxels, 5 classes); ``--subjects`` and so on make it smaller. Every part runs in a process of its own, all
with the same number of threads, on the same samples and folds (one person left out), with the defaults of
its library:

- ours: trains, scores and explains all folds (all measures of importance); mean of a chunk of ``--chunk``;
- scikit-learn: ``permutation_test_score`` with the multinomial ``LogisticRegression`` and with ``LinearSVC``;
- nilearn: ``Decoder``, one fit on images (a support vector machine per class, best 20 % of the voxels).

The alternatives give accuracies, and the Decoder mean weights, but no importance on held-out samples. They
are timed on some folds (``--timed-folds``) and scaled to all; the accuracies are those of the true labels in
the folds that were timed, for the Decoder in the first.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import numpy.typing as npt
from parts import seconds, timed

Folds = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def main(argv: list[str] | None = None) -> None:
    """Time one part, or every part in a process of its own, and print the ratios."""
    options = parse(argv)
    if options.part:
        print(*(f"{value:.9g}" for value in PARTS[options.part][1](options)))
        return
    print(
        f"{options.subjects} people x {options.samples} samples x {options.voxels} voxels, {options.classes} "
        f"classes, {options.threads} thread(s); seconds per permutation, all folds"
    )
    reference = 0.0
    for part, (title, _) in PARTS.items():
        seconds, accuracy = timed(__file__, part, options)
        reference = reference or seconds
        print(
            f"    {title:50s}{seconds:10.3f} s{seconds / reference:9.1f} x{seconds / 3.6:9.2f} h for 1000"
            f"{100 * accuracy:8.1f} % right",
            flush=True,
        )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", type=int, default=21)
    parser.add_argument("--samples", type=int, default=100, help="of a person")
    parser.add_argument("--voxels", type=int, default=28586)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--updates", type=int, default=10_000, help="minibatches of our training")
    parser.add_argument("--chunk", type=int, default=10, help="our permutations that share a call")
    parser.add_argument("--timed-folds", type=int, default=2, help="folds of the alternatives that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=tuple(PARTS), help="time this part alone: seconds and accuracy")
    return parser.parse_args(argv)


def data(options: argparse.Namespace) -> tuple[npt.NDArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return samples with a weak pattern per class, their labels and people."""
    rng = np.random.default_rng(0)
    n = options.subjects * options.samples
    labels = np.arange(n) % options.classes
    X = rng.standard_normal((n, options.voxels), dtype=np.float32)
    X += 0.05 * rng.standard_normal((options.classes, options.voxels), dtype=np.float32)[labels]
    return X, labels, np.arange(n) // options.samples


def some_folds(people: npt.NDArray[np.int64], n_folds: int) -> Folds:
    """Return the first folds that leave one person out."""
    return [(np.flatnonzero(people != one), np.flatnonzero(people == one)) for one in range(n_folds)]


def ours(options: argparse.Namespace) -> tuple[float, float]:
    """Time a chunk of permutations, and score the true labels."""
    from bids_xai.attribution import IMPORTANCES
    from bids_xai.attribution.runs import run_repetitions
    from bids_xai.decoding.basis import training_basis
    from bids_xai.decoding.descent import CpuTrainer
    from bids_xai.decoding.softmax import SgdParameters
    from bids_xai.decoding.splits import Fold
    from bids_xai.inference.permutation import permute_labels

    X, labels, people = data(options)
    basis = training_basis(X)
    folds = [Fold(str(i), *fold) for i, fold in enumerate(some_folds(people, options.subjects))]
    rng, events = np.random.default_rng(1), np.arange(len(labels))

    def run(dealt: list[npt.NDArray[np.int64]], n_updates: int) -> npt.NDArray[np.int64]:
        repetitions = run_repetitions(
            X,
            basis,
            np.stack(dealt),
            people,
            folds,
            options.classes,
            seeds=np.random.SeedSequence(2).spawn(len(dealt)),
            parameters=SgdParameters(0.005, n_updates=n_updates, l2=0.0),
            methods=tuple(IMPORTANCES),
            trainer=CpuTrainer(options.threads),
        )
        return np.stack([one.confusions for one in repetitions]).sum(axis=(0, 1))

    def permutations() -> None:
        schedule = [
            permute_labels(labels, "subject", people, people, events, rng) for _ in range(options.chunk)
        ]
        run(schedule, options.updates)

    run([labels], 10)
    of_chunk = seconds(permutations)
    confusion = run([labels], options.updates)
    return of_chunk / options.chunk, np.trace(confusion) / confusion.sum()


def logistic(options: argparse.Namespace) -> tuple[float, float]:
    """Time scikit-learn's multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return permutation_test(LogisticRegression(), options)


def svc(options: argparse.Namespace) -> tuple[float, float]:
    """Time scikit-learn's linear support vector machines."""
    from sklearn.svm import LinearSVC

    return permutation_test(LinearSVC(), options)


def permutation_test(classifier: object, options: argparse.Namespace) -> tuple[float, float]:
    """Time one permutation: of two scores, one on the true and one on permuted labels, the mean."""
    from sklearn.model_selection import permutation_test_score

    X, labels, people = data(options)
    folds = some_folds(people, options.timed_folds)
    start = time.perf_counter()
    accuracy, _, _ = permutation_test_score(
        classifier, X, labels, groups=people, cv=folds, n_permutations=1, n_jobs=1
    )
    return (time.perf_counter() - start) / 2 / len(folds) * options.subjects, accuracy


def decoder(options: argparse.Namespace) -> tuple[float, float]:
    """Time nilearn's Decoder: what a fit costs by itself, and what every fold adds."""
    import nibabel as nb
    from nilearn.decoding import Decoder

    X, labels, people = data(options)
    # The smallest box that holds the voxels: no time goes into masking an empty surround.
    side = int(np.ceil(options.voxels ** (1 / 3)))
    inside = np.zeros(side**3, dtype=bool)
    inside[: options.voxels] = True
    volumes = np.zeros((side**3, len(X)), dtype=np.float32)
    volumes[inside] = X.T
    images = nb.Nifti1Image(volumes.reshape(side, side, side, -1), 4 * np.eye(4))
    mask = nb.Nifti1Image(inside.reshape(side, side, side).astype(np.uint8), 4 * np.eye(4))
    del X, volumes

    def fit(n_folds: int) -> Decoder:
        cv = some_folds(people, n_folds)
        return Decoder(mask=mask, cv=cv, scoring="accuracy", n_jobs=1).fit(images, labels, groups=people)

    start = time.perf_counter()
    fitted = fit(1)
    of_one = time.perf_counter() - start
    of_fold = (seconds(lambda: fit(1 + options.timed_folds)) - of_one) / options.timed_folds
    ((_, test),) = some_folds(people, 1)
    right = fitted.predict(nb.Nifti1Image(images.dataobj[..., test], images.affine)) == labels[test]
    return max(of_one - of_fold, 0) + options.subjects * of_fold, right.mean()


PARTS = {
    "ours": ("bids_xai, with all measures of importance", ours),
    "logistic": ("scikit-learn, LogisticRegression, accuracy only", logistic),
    "svc": ("scikit-learn, LinearSVC, accuracy only", svc),
    "decoder": ("nilearn Decoder", decoder),
}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
