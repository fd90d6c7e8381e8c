"""Error rates of importance maps under a pure null, through the engine, for every measure.

A data set is noise; its true labels are one more exchange of the labels. Compared with the null is one real
run, or the mean of several:

- One real run differs from a permuted run by nothing but the labels it was dealt, so that its rank among
  them is uniform: per voxel, p-values are uniform on 1/(m+1), 2/(m+1) ... 1, and a voxel passes with
  probability alpha exactly, wherever alpha (m+1) is whole. The same holds for the maximum over the voxels.
- The mean of R real runs varies at most as a single permuted run, which also has the variation of one
  training: p-values are larger than uniform, the rates at most alpha. Weights vary less; LRP-z, whose tails
  are heavy, hardly does, for the mean of heavy-tailed values varies as one of them does.

The voxels of a data set share labels and noise, so that their number of passes has no binomial distribution.
Rates are those of one voxel of one class per data set, in turn: independent, and binomial exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from bids_xai.attribution import IMPORTANCES
from bids_xai.attribution.runs import run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.scores import accuracy
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.null import NullAccumulator, sided
from bids_xai.inference.permutation import p_value, permute_labels
from bids_xai.inference.thresholds import false_discovery, family_thresholds, p_map, voxel_thresholds
from bids_xai.workflows.inference import init_inference_wf

pytestmark = pytest.mark.slow

METHODS, TAILS, CLASSES = tuple(IMPORTANCES), ("greater", "two-sided"), ("a", "b", "c")
ALPHAS = (0.05, 0.01)
# Fewer than the 36 samples, and more: trained in voxel space, and in Gram space.
N_VOXELS = {"all": 6, "subject": 40, "run": 40}
TRAINING = {"learning_rate": 0.1, "batch_size": 6, "n_updates": 150, "l2": 0.0}
# With so many assertions on one set of draws, each must be all but certain where the claim is true.
CONFIDENCE = 0.9999


@dataclass(frozen=True)
class Outcome:
    """What a data set gives: one number per method and tail, shape (2, n_methods), but for the accuracy.

    ``p`` is that of one voxel of one class, ``passes`` says whether it exceeds its threshold at ALPHAS,
    ``rate`` is the share of all voxels and classes that do at the first; ``family`` and ``discovered`` say
    whether any voxel of one class passes family-wise, or by false discovery rate.
    """

    p: npt.NDArray[np.float64]
    passes: npt.NDArray[np.bool_]
    rate: npt.NDArray[np.float64]
    family: npt.NDArray[np.bool_]
    discovered: npt.NDArray[np.bool_]
    p_of_accuracy: float


def make_rows() -> pd.DataFrame:
    """Return three people with two runs of three events, one of each class, of two samples."""
    event = np.arange(18).repeat(2)
    return pd.DataFrame(
        {
            "subject": (event // 6).astype(str),
            "session": "",
            "task": "x",
            "run": (event // 3 % 2).astype(str),
            "event": event % 3,
            "class": np.array(CLASSES)[event % 3],
        }
    )


def null_data(
    scheme: str, number: int, *, shared: bool | None = None
) -> tuple[npt.NDArray[np.float32], Design]:
    """Return noise in which the scheme's units are exchangeable, and nothing smaller than them.

    Voxels are correlated. But for ``all``, the samples of an event share noise, people differ, and for
    ``run`` so do runs.
    """
    rng = np.random.default_rng([number, 77])
    shared = scheme != "all" if shared is None else shared
    design, _ = make_design(make_rows(), cv="run" if scheme == "run" else "subject")
    n_voxels = N_VOXELS[scheme]
    X = rng.standard_normal((len(design.labels), n_voxels))
    for codes, scale in (
        (design.events, 2 * shared),
        (design.subjects, shared),
        (design.runs, scheme == "run"),
    ):
        X += scale * rng.standard_normal((codes.max() + 1, n_voxels))[codes]
    mixing = rng.standard_normal((n_voxels, n_voxels)) / np.sqrt(n_voxels) + np.eye(n_voxels)
    return (X @ mixing).astype(np.float32), design


def draws(design: Design, scheme: str, number: int, stage: int, n: int):
    """Return labels and seeds of the repetitions of a stage (0: real, 1: permuted), as chunks draw them."""
    labels, seeds = [], []
    for index in range(n):
        of_labels, of_training = np.random.SeedSequence([number, stage, index]).spawn(2)
        blocks = (design.subjects, design.runs, design.events)
        rng = np.random.default_rng(of_labels)
        labels.append(
            permute_labels(design.labels, scheme, *blocks, rng, design.left_out) if stage else design.labels
        )
        seeds.append(of_training)
    return np.stack(labels), seeds


def repetitions(X, design, scheme, number, stage, n):
    labels, seeds = draws(design, scheme, number, stage, n)
    return list(
        run_repetitions(
            X,
            training_basis(X),
            labels,
            design.subjects,
            design.folds,
            len(CLASSES),
            seeds=seeds,
            parameters=SgdParameters(**TRAINING),
            methods=METHODS,
            trainer=CpuTrainer(),
        )
    )


def position(scheme: str, number: int) -> tuple[int, int]:
    """Return the voxel and the class that stand for a data set."""
    return number % N_VOXELS[scheme], number % len(CLASSES)


def analyse(scheme: str, number: int, m: int, *, n_runs: int = 1, shared: bool | None = None) -> Outcome:
    """Analyse one data set as the group level does."""
    X, design = null_data(scheme, number, shared=shared)
    real, null = (repetitions(X, design, scheme, number, stage, n) for stage, n in ((0, n_runs), (1, m)))
    mean = np.mean([run.maps for run in real], axis=0)
    voxel, own = position(scheme, number)
    by_tail = []
    for tail in TAILS:
        # Level 1 keeps all null values, for p-values of any size.
        accumulator = NullAccumulator(m, (1.0, *ALPHAS), mean.shape, tail)
        for run in null:
            accumulator.update(run.maps)
        kept, observed = accumulator.arrays(), sided(mean, tail)
        p = p_map(observed, kept["top"], m)
        passes = observed > voxel_thresholds(kept["top"], m, ALPHAS)
        family = observed > family_thresholds(kept["maxima"], ALPHAS)[0][..., None]
        by_tail.append((
            p[:, own, voxel],
            passes[:, :, own, voxel].T,
            passes[0].mean(axis=(1, 2)),
            family[:, own].any(axis=1),
            false_discovery(p, ALPHAS[0])[:, own].any(axis=1),
        ))  # fmt: skip
    scores = [accuracy(np.stack([run.confusions.sum(axis=0) for run in runs])) for runs in (real, null)]
    return Outcome(*map(np.stack, zip(*by_tail, strict=True)), p_value(scores[0].mean(), scores[1]))


@cache
def outcomes(scheme: str, n_datasets: int, m: int, n_runs: int = 1, shared: bool | None = None) -> Outcome:
    """Return the outcomes of many data sets, stacked along the first axis."""
    found = [analyse(scheme, number, m, n_runs=n_runs, shared=shared) for number in range(n_datasets)]
    return Outcome(*(np.stack([getattr(one, name) for one in found]) for name in Outcome.__annotations__))


def assert_is_alpha(passes: npt.NDArray[np.bool_], alpha: float) -> None:
    """Fail unless the numbers of passes, per column, lie inside the binomial interval of alpha."""
    low, high = stats.binom.interval(CONFIDENCE, len(passes), alpha)
    counts = passes.sum(axis=0)
    assert (low <= counts).all(), counts
    assert (counts <= high).all(), counts


def assert_is_at_most_alpha(passes: npt.NDArray[np.bool_], alpha: float) -> None:
    assert (passes.sum(axis=0) <= stats.binom.ppf(CONFIDENCE, len(passes), alpha)).all()


def assert_mean_rate_is_alpha(rates: npt.NDArray[np.float64], alpha: float) -> None:
    """Fail unless alpha lies inside the interval of the mean over data sets, which are independent."""
    error = rates.std(axis=0, ddof=1) / np.sqrt(len(rates))
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(rates) - 1) * error
    assert (np.abs(rates.mean(axis=0) - alpha) < reach).all(), rates.mean(axis=0)


def assert_are_uniform(p: npt.NDArray[np.float64], m: int) -> None:
    """Fail unless p-values are uniform on the multiples of 1 / (m + 1)."""
    steps = np.rint(p * (m + 1)).astype(int)
    np.testing.assert_allclose(steps, p * (m + 1), atol=1e-3)
    counts = np.bincount((steps - 1) * 10 // (m + 1), minlength=10)
    assert stats.chisquare(counts).pvalue > 1 - CONFIDENCE, counts
    # Spread over its step, a p-value is uniform between 0 and 1.
    spread = (steps - np.random.default_rng(0).uniform(size=len(p))) / (m + 1)
    assert stats.kstest(spread, "uniform").pvalue > 1 - CONFIDENCE


def assert_is_valid(found: Outcome, m: int) -> None:
    """Fail unless the analyses with one real run keep all that permutation promises."""
    for level, alpha in enumerate(ALPHAS):
        if alpha * (m + 1) >= 1:
            assert_is_alpha(found.passes[..., level], alpha)
    assert_mean_rate_is_alpha(found.rate, ALPHAS[0])
    assert_is_alpha(found.family, ALPHAS[0])
    assert_is_at_most_alpha(found.discovered, ALPHAS[0])
    for p in np.moveaxis(found.p, 0, -1).reshape(-1, len(found.p)):
        assert_are_uniform(p, m)
    # Accuracies are tied often, which makes their p-values larger.
    assert_is_at_most_alpha(found.p_of_accuracy <= ALPHAS[0], ALPHAS[0])


@pytest.mark.parametrize("scheme", ["all", "subject", "run"])
def test_one_run_is_uniform_among_permuted_runs(scheme: str) -> None:
    assert_is_valid(outcomes(scheme, 200, 19), 19)


def test_small_levels_are_reached_as_often_as_they_say() -> None:
    # As many as half a minute allows; the thorough version is the long one below.
    assert_is_valid(outcomes("subject", 40, 99), 99)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["all", "subject", "run"])
def test_rates_are_alpha_in_many_data_sets(scheme: str) -> None:
    assert_is_valid(outcomes(scheme, 500, 99), 99)


def test_the_mean_of_many_runs_errs_less_than_alpha() -> None:
    one, many = outcomes("subject", 200, 19), outcomes("subject", 100, 19, n_runs=8)
    assert_is_at_most_alpha(many.passes[..., 0], ALPHAS[0])
    assert_is_at_most_alpha(many.family, ALPHAS[0])
    weights = METHODS.index("W")
    assert many.rate[:, :, weights].mean() < 0.8 * one.rate[:, :, weights].mean()


def test_exchanging_single_samples_of_events_passes_too_often() -> None:
    # Shows that the assertions can fail: samples of one event are no units.
    wrong = outcomes("all", 100, 19, shared=True)
    with pytest.raises(AssertionError):
        assert_mean_rate_is_alpha(wrong.rate, ALPHAS[0])
    assert wrong.rate[:, :, METHODS.index("W")].mean() > 1.4 * ALPHAS[0]


def test_the_workflow_gives_the_same(tmp_path: Path) -> None:
    number, m = 3, 19
    X, design = null_data("subject", number)
    np.save(tmp_path / "X.npy", X)
    training_basis(X).save(tmp_path / "K.npy")
    design.save(tmp_path / "design.json")
    workflow = init_inference_wf(
        training=TRAINING,
        importance=METHODS,
        n_runs=1,
        n_permutations=m,
        n_null=0,
        alpha=ALPHAS,
        random_seed=number,
        chunk_size=7,
    )
    workflow.base_dir = str(tmp_path)
    workflow.inputs.inputnode.data = str(tmp_path / "X.npy")
    workflow.inputs.inputnode.gram = str(tmp_path / "K.npy")
    workflow.inputs.inputnode.design = str(tmp_path / "design.json")
    workflow.inputs.inputnode.permute = "subject"
    nodes = {node.name: node for node in workflow.run(plugin="Linear").nodes()}
    maps = load_chunk(nodes["summarize"].result.outputs.out_maps)
    expected = analyse("subject", number, m)
    voxel, own = position("subject", number)
    # The workflow keeps the values that the levels need: p-values above the largest level are 1.
    p = np.where(expected.p[0] <= ALPHAS[0], expected.p[0], 1)
    np.testing.assert_array_equal(maps["p"][:, own, voxel], p)
    np.testing.assert_array_equal(maps["thresholded-0"][:, own, voxel] != 0, expected.passes[0, :, 0])
    np.testing.assert_array_equal((maps["thresholded-0"] != 0).mean(axis=(1, 2)), expected.rate[0])
    np.testing.assert_array_equal((maps["fwer-0"][:, own] != 0).any(axis=1), expected.family[0])
