"""How long the group level takes: a second of measuring, and what is known of the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import nibabel as nb
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from bids_xai.attribution.runs import run_repetitions
from bids_xai.bids.results import SampleSet
from bids_xai.decoding.basis import Basis, aligned, aligned_zeros, is_dual, training_basis
from bids_xai.decoding.descent import Trainer, trainer
from bids_xai.decoding.design import Design
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.execution.plugins import device_here
from bids_xai.images import masking
from bids_xai.images.stacking import stack_samples, varying_voxels
from bids_xai.inference.null import kept_values
from bids_xai.inference.reproducibility import ExceedanceCounter
from bids_xai.settings import Settings

# Two widths tell what grows with the voxels from what does not.
_VOXELS = (512, 4096)
_FOLDS = 2
_TRIALS = 3
_MEASURED_SECONDS = 0.06
# Samples times voxels that are read to train a fold: a second or two.
_MOST_VALUES = 20_000_000
# Measured on two cores of 2024; the rest of the run is short against the trainings unless these are few.
_START_SECONDS = 5.0  # the program and its workers: interpreters and libraries
_NODE_SECONDS = 0.15  # nipype's files and queue
_REPORT_SECONDS = 5.0  # figures and HTML, and by map:
_MAP_SECONDS = 0.1
_COLLECT_BYTES = 5e7  # read, masked and stacked in a second
_LEDGER_BYTES = 5e8  # read, merged and written in a second
_PRODUCTS = 1e10  # multiplications and additions of the Gram matrix in a second


@dataclass(frozen=True)
class Size:
    """What the time depends on.

    Parameters
    ----------
    n_voxels
        Voxels of the mask.
    design
        Labels and folds.
    n_procs
        Processors in use.
    """

    n_voxels: int
    design: Design
    n_procs: int

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.design.labels)


def estimate_seconds(settings: Settings, size: Size) -> float:
    """Return about how many seconds the group level takes, after measuring for about one.

    Chunks of a stage run side by side; a stage is as long as its busiest processor.
    """
    inference = settings.inference
    repetition = measure_repetition(settings, size)
    n_maps = len(inference.importance) * len(size.design.classes)
    values = n_maps * size.n_voxels
    kept = kept_values(inference.n_permutations, inference.alpha)
    stages = [
        [(inference.n_permutations, 4 * kept * values)],
        [(n, (4 * len(inference.alpha) + 16) * values) for n in (inference.n_runs, inference.n_null)],
    ]
    if inference.stop_after_exceedances is not None:
        stages.insert(0, [(inference.n_runs, 0)])
    workers = max(size.n_procs // settings.execution.omp_nthreads, 1)
    threads = size.n_procs // workers
    total = _START_SECONDS + _REPORT_SECONDS + _MAP_SECONDS * n_maps
    for stage in stages:
        chunks = [chunk for n, held in stage for chunk in _chunks(n, settings.execution.chunk_size, held)]
        work = [n * repetition / threads + _NODE_SECONDS + 2 * held / _LEDGER_BYTES for n, held in chunks]
        total += max(sum(work) / workers, *work)
    collected = 4 * size.n_samples * size.n_voxels / _COLLECT_BYTES
    gram = size.n_samples**2 * size.n_voxels / _PRODUCTS if is_dual((size.n_samples, size.n_voxels)) else 0
    return total + collected + gram


def measure_repetition(settings: Settings, size: Size) -> float:
    """Return the seconds of one repetition in one thread: training, maps and what is kept of them.

    Noise of the real number of samples is trained on in the real folds, two of them at most, in a part of the
    voxels and of the updates.
    """
    folds = len(size.design.folds) / min(len(size.design.folds), _FOLDS)
    widths = [min(width, size.n_voxels) for width in _VOXELS]
    if not is_dual((size.n_samples, size.n_voxels)):
        widths = [size.n_voxels]
    trials = [_Trial(settings, size, width) for width in widths]
    trials[0].seconds(1)
    fixed = [trial.seconds(1) for trial in trials]
    slope = max(fixed[-1] - fixed[0], 0.0) / max(widths[-1] - widths[0], 1)
    return folds * (
        fixed[-1] + slope * (size.n_voxels - widths[-1]) + _seconds_of_updates(trials[0], fixed[0], settings)
    )


def _seconds_of_updates(trial: _Trial, fixed: float, settings: Settings) -> float:
    """Return the seconds of all updates, from as many as there is time for."""
    wanted, n = settings.decoding.n_updates, min(64, settings.decoding.n_updates)
    while True:
        elapsed = max(trial.seconds(n) - fixed, 0.0)
        if elapsed > _MEASURED_SECONDS or n == wanted:
            return elapsed * wanted / n
        n = min(n * 4, wanted)


def trained_falls(
    settings: Settings, design: Design, found: Sequence[SampleSet], kept: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Train one fold of the samples that are written, and return what its second half gained.

    What convergence depends on is in the samples: of those that are not yet written nothing is known, and
    many take long to read. Few voxels converge slowest.

    Parameters
    ----------
    settings
        All settings.
    design
        Labels and folds.
    found
        Samples that are written; empty if there are none.
    kept
        Numbers of the samples of the design among them.

    Returns
    -------
    array
        See :func:`bids_xai.decoding.convergence.late_falls`; empty where it is not known.
    """
    if not found:
        return np.zeros(0)
    masks = [nb.load(item.mask) for item in found]
    mask = masking.intersect(masks)
    images = [nb.load(item.samples) for item in found]
    n_rows = sum(image.shape[3] for image in images)
    if n_rows * int(np.asarray(mask.dataobj).sum()) > _MOST_VALUES:
        return np.zeros(0)
    mask = varying_voxels(images, mask)
    n_voxels = int(np.asarray(mask.dataobj).sum())
    X = np.empty((len(design.labels), n_voxels), dtype=np.float32)
    stack_samples(images, mask, kept, out=X)
    decoding = settings.decoding
    parameters = SgdParameters(
        learning_rate=decoding.learning_rate,
        batch_size=decoding.batch_size,
        n_updates=decoding.n_updates,
        l2=decoding.l2,
        clip=decoding.clip,
        bias=decoding.bias,
    )
    with threadpool_limits(1, user_api="blas"):
        (result,) = run_repetitions(
            X,
            training_basis(X),
            design.labels[None],
            design.subjects,
            design.folds[:1],
            len(design.classes),
            seeds=[np.random.SeedSequence(decoding.random_seed)],
            parameters=parameters,
            methods=[],
            trainer=trainer("cpu"),
        )
    return result.falls


class _Trial:
    """Repetitions of noise in some of the voxels and folds."""

    def __init__(self, settings: Settings, size: Size, width: int) -> None:
        rng = np.random.default_rng(0)
        n = size.n_samples
        self.settings, self.design = settings, size.design
        self.X = rng.standard_normal((n, width), dtype=np.float32)
        dual = is_dual((n, size.n_voxels))
        self.basis = Basis(_noise(rng, n) if dual else aligned(self.X), n if dual else width, dual)
        self.device = device_here(settings.execution)
        self.trainer: Trainer = trainer(self.device)

    def seconds(self, n_updates: int) -> float:
        """Return the time of one repetition with so many updates: the shortest, others were held up."""
        return min(self._once(n_updates) for _ in range(_TRIALS))

    def _once(self, n_updates: int) -> float:
        inference, decoding = self.settings.inference, self.settings.decoding
        shape = (len(inference.alpha), len(inference.importance), len(self.design.classes), self.X.shape[1])
        counter = ExceedanceCounter(np.zeros(shape, dtype=np.float32), inference.tail)
        # Of any size: neither changes the time.
        parameters = SgdParameters(1e-3, decoding.batch_size, n_updates, l2=1e-3)
        # On the processor its own time, which other programs do not lengthen.
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        with threadpool_limits(1, user_api="blas"):
            began = clock()
            for maps in self._maps(parameters):
                counter.update(maps)
            return clock() - began

    def _maps(self, parameters: SgdParameters) -> Iterator[npt.NDArray[np.float32]]:
        inference, design = self.settings.inference, self.design
        for result in run_repetitions(
            self.X,
            self.basis,
            design.labels[None],
            design.subjects,
            design.folds[:_FOLDS],
            len(design.classes),
            seeds=[np.random.SeedSequence(0)],
            parameters=parameters,
            methods=inference.importance,
            importance_samples=inference.importance_samples,
            map_values=inference.map_values,
            trainer=self.trainer,
        ):
            yield result.maps


def _noise(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    """Return rows in place of a Gram matrix, made one by one: a second matrix may not fit into memory.

    What they hold does not change the time; products of samples would take long to make.
    """
    rows = aligned_zeros(n, n, np.float32)
    for row in rows:
        row[:n] = rng.standard_normal(n, dtype=np.float32) / np.float32(n)
    return rows


def _chunks(n: int, chunk_size: int, held: int) -> list[tuple[int, int]]:
    return [(min(chunk_size, n - start), held) for start in range(0, n, chunk_size)]
