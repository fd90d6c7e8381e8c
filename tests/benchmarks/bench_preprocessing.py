"""Time, memory and error of preprocessing a raw phantom, per profile.

    python -m tests.benchmarks.bench_preprocessing [--profiles sloppy quick full]

One subject (T1w at 1 mm, two BOLD runs at 3 mm), two processes, every profile in a working folder of its own,
then again with the warm folder. Errors are distances to where the phantom's truth puts the tissue.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import psutil

from bids_xai.images.brain import extract_brain
from bids_xai.images.grids import volumes
from bids_xai.images.motion import estimate_motion
from bids_xai.interfaces.ants import Registration
from bids_xai.phantom.bids_dataset import make_dataset
from bids_xai.phantom.parameters import PhantomParameters
from bids_xai.phantom.template import grid_points, load_template, sample
from tests.registration_truth import anatomy_of, run_errors, t1w_errors

SPACE = "MNI152NLin2009aSym"


def main() -> None:
    """Print one line per profile, the brain extraction's overlap, and motion against the naive way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", nargs="+", default=["sloppy", "quick"])
    parser.add_argument("--resolution", type=float, default=3.0, help="of BOLD, mm")
    parser.add_argument("--t1w-resolution", type=float, default=1.0, help="mm")
    arguments = parser.parse_args()
    parameters = PhantomParameters(
        subjects=1,
        runs=2,
        anatomy=True,
        motion=True,
        resolution=arguments.resolution,
        t1w_resolution=arguments.t1w_resolution,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bids = make_dataset(folder / "bids", parameters)
        print("profile  registration  wall s  peak MB  warm s  T1w mm (unregistered)  BOLD volumes mm")
        for profile in arguments.profiles:
            for registration in ("affine", "syn"):
                out = folder / f"{profile}-{registration}"
                words = ["--registration-profile", profile, "--registration", registration]
                command = _command(bids, out, folder / f"work-{out.name}", words)
                seconds, megabytes = _measured(command)
                warm, _ = _measured(command)
                error, before = t1w_errors(out, parameters, 1, SPACE)
                runs = float(np.mean(run_errors(out, bids, parameters, 1, SPACE)))
                print(
                    f"{profile:8} {registration:13} {seconds:6.0f} {megabytes:8.0f} {warm:7.1f} "
                    f"{error:7.2f} ({before:.1f}) {runs:14.2f}",
                    flush=True,
                )
        _brains(bids, parameters)
        _motion(next(bids.glob("sub-01/func/*_bold.nii.gz")), folder)


def _command(bids: Path, out: Path, work: Path, words: list[str]) -> list[str]:
    call = [sys.executable, "-m", "bids_xai.cli.run", str(bids), str(out), "participant", "--nprocs", "2"]
    return [*call, "-w", str(work), "--space", SPACE, "--skip-bids-validation", *words]


def _measured(command: list[str]) -> tuple[float, float]:
    """Return seconds and the largest memory (MB) of a command and its children together."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        family = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(family))
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - began, peak / 1e6


def _resident(family: psutil.Process) -> int:
    total = 0
    try:
        for process in (family, *family.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def _brains(bids: Path, parameters: PhantomParameters) -> None:
    """Print the overlap (Dice) of the extracted brain with the tissue that the head was made of."""
    template = load_template()
    img = nb.load(next(bids.glob("sub-01/anat/*_T1w.nii.gz")))
    points = grid_points(img.shape, img.affine)
    tissue = sample(
        template.gm + template.wm + template.csf,
        template.affine,
        anatomy_of(parameters, 1).to_template(points),
    )
    truth = (tissue > 0.5).reshape(img.shape)
    found = np.asarray(extract_brain(img).dataobj) > 0
    dice = 2 * np.count_nonzero(truth & found) / (np.count_nonzero(truth) + np.count_nonzero(found))
    print(f"Brain extraction: Dice {dice:.3f} with the known brain")


def _motion(path: Path, folder: Path) -> None:
    """Print how much faster the realignment of a run is than antsRegistration for each of its volumes."""
    img = nb.load(path)
    began = time.perf_counter()
    motion = estimate_motion(img)
    ours = (time.perf_counter() - began) / img.shape[3]
    nb.save(motion.reference, folder / "reference.nii.gz")
    volume = next(volumes(img)).astype(np.float32)
    nb.save(nb.Nifti1Image(volume, img.affine), folder / "volume.nii.gz")
    began = time.perf_counter()
    Registration(
        dimension=3,
        fixed_image=str(folder / "reference.nii.gz"),
        moving_image=str(folder / "volume.nii.gz"),
        transforms=["Rigid"],
        transform_parameters=[(0.1,)],
        metric=["GC"],
        metric_weight=[1.0],
        radius_or_number_of_bins=[1],
        sampling_strategy=["Regular"],
        sampling_percentage=[0.25],
        number_of_iterations=[[50, 20]],
        convergence_threshold=[1e-7],
        convergence_window_size=[10],
        shrink_factors=[[2, 1]],
        smoothing_sigmas=[[1, 0]],
        write_composite_transform=True,
        random_seed=1,
    ).run(cwd=str(folder))
    naive = time.perf_counter() - began
    print(
        f"Motion: {ours * 1e3:.0f} ms a volume, antsRegistration {naive * 1e3:.0f} ms: x {naive / ours:.0f}"
    )


if __name__ == "__main__":
    main()
