"""Programs run without a shell: whatever folders are called, nothing in their names is read or executed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from nipype.pipeline.engine.nodes import NodeExecutionError

from bids_xai.interfaces import ants, fsl_programs
from bids_xai.interfaces.fsl import ReorientImage
from bids_xai.interfaces.programs import how_it_ended
from bids_xai.workflows.registration import PROFILES, registration_interface
from tests.heads import SmoothHead, centred_affine

# What shells, ANTs' brackets, FSL's scripts, globs, configuration files and encodings read in their own ways.
NAMES = (
    "two words", "it's", 'say "x"', "$(touch ran)", "`touch ran`", "a; touch ran", "a && touch ran", "a | b",
    "[x]", "{a,b}", "a,b", "a(b)", "* ?", "~", "#1", "back\\slash", "%s 100%", "é 脳 🧠", "-in",
    "line\nbreak",
)  # fmt: skip
ALL = 'it\'s "a" b; $(touch ran) `touch ran` [x], {c} é脳 %s & #1 -in *'
SHAPE = (24, 24, 24)

# Writes down its words and makes the outputs that its words name.
STAND_IN = """#!{python}
import json, os, shutil, sys
with open("words.json", "w") as stream:
    json.dump(sys.argv[1:], stream)
words = sys.argv[1:]
after = dict(zip(words, words[1:]))
source = after.get("-in") or after.get("-i") or next(word for word in words if word.endswith(".nii.gz"))
target = after.get("-out") or after.get("-r") or [word for word in words if word.endswith(".nii.gz")][-1]
shutil.copyfile(source, target)
if "-omat" in after or "-m" in after:
    open(after.get("-omat") or after["-m"], "w").write("1 0 0 0\\n0 1 0 0\\n0 0 1 0\\n0 0 0 1\\n")
if "-m" in words and "-r" not in words:
    shutil.copyfile(source, target.replace(".nii.gz", "_mask.nii.gz"))
"""


@pytest.fixture
def fsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("mcflirt", "bet", "fslmaths", "flirt", "convert_xfm", "robustfov"):
        (folder / program).write_text(STAND_IN.format(python=sys.executable))
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("FSLDIR", str(folder))
    monkeypatch.setenv("FSLOUTPUTTYPE", "NIFTI_GZ")
    monkeypatch.chdir(tmp_path)


def _image(path: Path, shape: tuple[int, ...] = (4, 4, 4)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.save(nb.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), path)
    return str(path)


def _nothing_was_executed(folder: Path) -> bool:
    return not list(folder.rglob("ran"))


@pytest.mark.parametrize("name", [*NAMES, ALL])
def test_fsl_gets_its_words_whatever_folders_are_called(tmp_path: Path, fsl: None, name: str) -> None:
    folder = tmp_path / name
    first, second = _image(folder / "in" / "first.nii.gz"), _image(folder / "in" / "second.nii.gz")
    matrix = folder / "in" / "to.mat"
    np.savetxt(matrix, np.eye(4))
    run = _image(folder / "in" / "run.nii.gz", (4, 4, 4, 3))
    cases: list[tuple[Any, dict[str, Any], list[str], str]] = [
        (fsl_programs.BET, {"in_file": first, "mask": True},
         ["inputs/0/first.nii.gz", "first_brain.nii.gz", "-m"], "out_file"),
        (fsl_programs.MCFLIRT, {"in_file": run},
         ["-in", "inputs/0/run.nii.gz", "-out", "run_mcf.nii.gz"], "out_file"),
        (fsl_programs.FLIRT, {"in_file": first, "reference": second, "dof": 9},
         ["-in", "inputs/0/first.nii.gz", "-ref", "inputs/1/second.nii.gz", "-out", "first_flirt.nii.gz",
          "-omat", "first_flirt.mat", "-dof", "9"], "out_file"),
        (fsl_programs.ApplyXFM, {"in_file": first, "reference": second, "in_matrix_file": str(matrix)},
         ["-in", "inputs/0/first.nii.gz", "-ref", "inputs/2/second.nii.gz", "-out", "first_flirt.nii.gz",
          "-omat", "first_flirt.mat", "-applyxfm", "-init", "inputs/1/to.mat"], "out_file"),
        (fsl_programs.ImageMaths, {"in_file": first, "in_file2": second, "op_string": "-bptf 5 -1 -add"},
         ["inputs/0/first.nii.gz", "-bptf", "5", "-1", "-add", "inputs/1/second.nii.gz",
          "first_maths.nii.gz"], "out_file"),
        (fsl_programs.RobustFOV, {"in_file": first, "out_transform": "roi.mat"},
         ["-i", "inputs/0/first.nii.gz", "-r", "first_ROI.nii.gz", "-m", "roi.mat"], "out_roi"),
    ]  # fmt: skip
    for number, (kind, inputs, words, output) in enumerate(cases):
        cwd = folder / "work" / str(number)
        cwd.mkdir(parents=True)
        outputs = kind(**inputs, output_type="NIFTI_GZ").run(cwd=str(cwd)).outputs
        assert json.loads((cwd / "words.json").read_text()) == words
        assert Path(getattr(outputs, output)).parent == cwd
        assert not (cwd / "inputs").exists()
        assert Path(inputs["in_file"]).is_file()
    assert _nothing_was_executed(tmp_path)


def _register(folder: Path) -> np.ndarray:
    """Register, apply and correct for bias in a folder of that name; return the moved image's values."""
    affine = centred_affine(np.diag([6.0, 6, 6]), SHAPE)
    moved = np.eye(4)
    moved[:3, 3] = [8, -5, 4]
    images = []
    for name, matrix in (("fixed", np.eye(4)), ("moving", moved)):
        images.append(folder / f"{name}.nii.gz")
        nb.save(SmoothHead().image(SHAPE, affine, matrix[None]).slicer[..., 0], images[-1])
    fixed, moving = map(str, images)
    start = folder / "initial.txt"
    start.write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n"
    )
    work = folder / "work"
    work.mkdir()
    register = registration_interface(
        "rigid", PROFILES["sloppy"], voxel_mm=6, fixed_image=fixed, moving_image=moving,
        initial_moving_transform=[str(start)],
    )  # fmt: skip
    transform = register.run(cwd=str(work)).outputs.composite_transform
    apply = ants.ApplyTransforms(
        dimension=3, input_image=moving, reference_image=fixed, transforms=[transform], interpolation="Linear"
    )
    result = apply.run(cwd=str(work)).outputs.output_image
    field = ants.ApplyTransforms(
        dimension=3, input_image=moving, reference_image=fixed, transforms=[transform],
        print_out_composite_warp_file=True, output_image="field.nii.gz",
    ).run(cwd=str(work)).outputs.output_image  # fmt: skip
    assert nb.load(field).shape[-1] == 3
    corrected = ants.N4BiasFieldCorrection(dimension=3, input_image=moving, n_iterations=[5])
    assert Path(corrected.run(cwd=str(work)).outputs.output_image).is_file()
    assert nb.load(fixed).shape == SHAPE
    return np.asarray(nb.load(result).dataobj)


def test_ants_works_the_same_whatever_folders_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "plain", tmp_path / ALL):
        folder.mkdir()
    monkeypatch.chdir(tmp_path / ALL)
    plain, awkward = _register(tmp_path / "plain"), _register(tmp_path / ALL)
    np.testing.assert_array_equal(plain, awkward)
    truth = SmoothHead().image(SHAPE, centred_affine(np.diag([6.0, 6, 6]), SHAPE)).get_fdata()
    assert np.corrcoef(truth.ravel(), awkward.ravel())[0, 1] > 0.99
    assert _nothing_was_executed(tmp_path)


def test_a_kept_result_is_found_again_in_a_folder_with_brackets(tmp_path: Path) -> None:
    image = _image(tmp_path / "image.nii.gz")
    times = []
    for _ in range(2):
        graph = pe.Workflow(name="graph", base_dir=str(tmp_path / "[x] {y} *"))
        source = pe.Node(niu.IdentityInterface(fields=["files"]), name="source")
        source.inputs.files = [image, image]
        reorient = pe.MapNode(ReorientImage(), iterfield=["in_file"], name="reorient")
        graph.connect(source, "files", reorient, "in_file")
        graph.run()
        made = sorted((tmp_path / "[x] {y} *").rglob("*_reoriented.nii.gz"))
        times.append([path.stat().st_mtime_ns for path in made])
    assert len(times[0]) == 2
    assert times[0] == times[1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("kill -SEGV $$", r"flirt was ended by signal 11 \(SIGSEGV\), return code -11"),
        ("sh -c 'kill -KILL $$'; exit $?", r"flirt exited with code 137: .* signal 9 \(SIGKILL\)"),
        ("echo no room >&2; exit 3", r"no room(.|\n)*flirt exited with code 3\."),
    ],
)
def test_a_program_that_crashes_is_reported_with_signal_and_return_code(
    tmp_path: Path, fsl: None, body: str, message: str
) -> None:
    program = tmp_path / "bin" / "flirt"
    program.write_text(f"#!/bin/sh\n{body}\n")
    first = _image(tmp_path / "first.nii.gz")
    node = pe.Node(
        fsl_programs.FLIRT(in_file=first, reference=first), name="register", base_dir=str(tmp_path)
    )
    with pytest.raises(NodeExecutionError, match=message):
        node.run()


def test_a_child_of_python_that_crashes_is_reported(tmp_path: Path) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    code = subprocess.run([sys.executable, "-c", crash], check=False).returncode
    assert how_it_ended("antsRegistration", code) == (
        "antsRegistration was ended by signal 6 (SIGABRT), return code -6."
    )


def test_an_absent_program_is_named(tmp_path: Path, fsl: None) -> None:
    (tmp_path / "bin" / "flirt").unlink()
    assert shutil.which("flirt") is None
    first = _image(tmp_path / "first.nii.gz")
    with pytest.raises(OSError, match="no program 'flirt' on PATH"):
        fsl_programs.FLIRT(in_file=first, reference=first).run(cwd=str(tmp_path))
