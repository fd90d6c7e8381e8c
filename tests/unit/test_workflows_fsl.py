"""The FSL engine: its graphs, the commands that it runs, and its refusal where FSL is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from nipype.pipeline.engine.utils import generate_expanded_graph

from bids_xai.bids.confounds import ENGINE_COLUMNS
from bids_xai.bids.descriptions import write_description
from bids_xai.errors import InputError
from bids_xai.images.grids import downsample, same_grid
from bids_xai.images.motion import (
    framewise_displacement,
    head_centre,
    motion_regressors,
    rigid_matrix,
    rigid_parameters,
)
from bids_xai.interfaces.fsl import (
    MotionParameters,
    ReorientImage,
    centre_matrix,
    coverage,
    fsl_from_voxel,
    reference_grid,
)
from bids_xai.interfaces.functional import EstimateMotion
from bids_xai.workflows.ants import init_ants_preproc_wf
from bids_xai.workflows.fsl import FSL_PROGRAMS, check_fsl, fsl_version, init_fsl_preproc_wf
from bids_xai.workflows.literate import describe
from bids_xai.workflows.preprocessing import init_preproc_wf
from bids_xai.workflows.raw import BOLD, FLAIR, T1W
from tests.fsl_programs import PROGRAMS, UNALIGNED, put_on_path
from tests.heads import CENTRE, SmoothHead, centred_affine

MODALITIES = ("bold", "T1w", "FLAIR")
MADE = {
    "bold": ("images", "mask", *T1W, *BOLD, "confounds"),
    "T1w": ("images", "mask", *T1W),
    "FLAIR": ("images", "mask", *T1W, *FLAIR),
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return put_on_path(tmp_path, monkeypatch)


def _image(path: Path, shape: tuple[int, ...], voxel_mm: float = 1.0, value: float = 1.0) -> str:
    """Write an image of a value that grows along the axes up to ``value``; a run is constant over time."""
    affine = np.diag([-voxel_mm, voxel_mm, voxel_mm, 1])
    data = np.linspace(value / 2, value, np.prod(shape[:3])).reshape(shape[:3])
    data = np.broadcast_to(data[..., None], shape) if len(shape) == 4 else data
    nb.save(nb.Nifti1Image(data.astype(np.float32), affine), path)
    return str(path)


def _collect(**ports):  # type: ignore[no-untyped-def]  # nipype executes the source alone
    return ports


def _run(
    tmp_path: Path,
    *,
    n_runs: int = 2,
    t1w_values: tuple[float, ...] = (1, 2),
    run_mm: float = 3,
    **parameters: Any,
) -> dict[str, Any]:
    """Run a graph on tiny images and return what arrives at its outputnode."""
    preproc_wf = init_fsl_preproc_wf(**parameters)
    inputs = preproc_wf.get_node("inputnode").inputs
    inputs.t1w = [
        _image(tmp_path / f"ses-{s}_T1w.nii.gz", (8, 9, 7), 14, value=value)
        for s, value in enumerate(t1w_values, start=1)
    ]
    inputs.flair = [_image(tmp_path / f"ses-{s}_FLAIR.nii.gz", (9, 7, 8), value=10 * s) for s in (1, 2)]
    inputs.bold = [
        _image(tmp_path / f"run-{r}_bold.nii.gz", (4, 5, 3, 3 + r), run_mm, value=r)
        for r in range(1, n_runs + 1)
    ]
    inputs.t1w_index = [1, 0][:n_runs] if parameters["modality"] == "bold" else [0, 1]
    inputs.template = _image(tmp_path / "template.nii.gz", (18, 22, 18))
    inputs.template_mask = str(tmp_path / "template_mask.nii.gz")
    nb.save(nb.Nifti1Image(np.ones((18, 22, 18), np.uint8), np.diag([-1, 1, 1, 1])), inputs.template_mask)
    own = {"bold": inputs.bold, "FLAIR": inputs.flair}.get(parameters["modality"], [])
    inputs.names = [Path(path).name for path in (*inputs.t1w, *own)]
    ports = list(MADE[parameters["modality"]])
    sink = pe.Node(niu.Function(input_names=ports, output_names=["out"], function=_collect), name="sink")
    workflow = pe.Workflow(name="test_wf", base_dir=str(tmp_path / "work"))
    workflow.config["execution"] = {"crashdump_dir": str(tmp_path), "stop_on_first_crash": "true"}
    workflow.connect([(preproc_wf, sink, [(f"outputnode.{port}", port) for port in ports])])
    nodes = {node.name: node for node in workflow.run().nodes()}
    outputs: dict[str, Any] = nodes["sink"].result.outputs.out
    return outputs


def _commands(log: Path) -> list[str]:
    lines = [line.split("|") for line in log.read_text().splitlines()]
    assert {kind for kind, note in lines if not note.startswith("N4")} == {"NIFTI_GZ"}
    return sorted(note for _, note in lines)


# What Gotsopoulos et al. 2018, 2.3, did to a run r and its T1w s, in FSL's own words; options that the
# paper does not give are FSL's defaults, and FEAT's where there is a choice (-f 0.3, -add).
PUBLISHED_T1W = """
bet ses-{s}_T1w_reoriented.nii.gz ses-{s}_T1w_reoriented_brain.nii.gz -m -R
flirt -in ses-{s}_T1w_reoriented_brain.nii.gz -ref downsampled.nii \
  -out ses-{s}_T1w_reoriented_brain_flirt.nii.gz -omat ses-{s}_T1w_reoriented_brain_flirt.mat -dof 9
convert_xfm -omat ses-{s}_T1w_reoriented_brain_flirt_inv.mat -inverse ses-{s}_T1w_reoriented_brain_flirt.mat
"""
PUBLISHED_BOLD = """
mcflirt -in run-{r}_bold_reoriented.nii.gz -out {mcf}.nii.gz -mats
fslmaths {mcf}.nii.gz -Tmean {mcf}_mean.nii.gz
bet {mcf}_mean.nii.gz {mcf}_mean_brain.nii.gz -f 0.30 -m
fslmaths {mcf}.nii.gz -mas {mcf}_mean_brain_mask.nii.gz {mcf}_masked.nii.gz
fslmaths {mcf}_masked.nii.gz -Tmean {mcf}_masked_mean.nii.gz
fslmaths {mcf}_masked.nii.gz -bptf 55 -1 -add {mcf}_masked_mean.nii.gz {mcf}_masked_tempfilt.nii.gz
flirt -in {mcf}_mean_brain.nii.gz -ref ses-{s}_T1w_reoriented_brain.nii.gz \
  -out {mcf}_mean_brain_flirt.nii.gz -omat {mcf}_mean_brain_flirt.mat -dof 9
convert_xfm -omat to_template.mat \
  -concat ses-{s}_T1w_reoriented_brain_flirt.mat {mcf}_mean_brain_flirt.mat
flirt -in {mcf}_masked_tempfilt.nii.gz -ref downsampled.nii -out {mcf}_masked_tempfilt_flirt.nii.gz \
  -omat {mcf}_masked_tempfilt_flirt.mat -applyxfm -init to_template.mat
flirt -in {mcf}_mean_brain_mask.nii.gz -ref downsampled.nii -out {mcf}_mean_brain_mask_flirt.nii.gz \
  -omat {mcf}_mean_brain_mask_flirt.mat -applyxfm -init to_template.mat -interp nearestneighbour
"""
# What Eitel et al. 2019, 2.2, did to the session s: bias field, robust field of view, T1w to MNI, FLAIR to
# T1w, one spline interpolation.
PUBLISHED_HEAD = """
N4BiasFieldCorrection -d 3 --input-image ses-{s}_{kind}_reoriented.nii.gz \
  --output ses-{s}_{kind}_reoriented_corrected.nii.gz
robustfov -i ses-{s}_{kind}_reoriented_corrected.nii.gz \
  -r ses-{s}_{kind}_reoriented_corrected_ROI.nii.gz -m roi.mat
"""
PUBLISHED_MPRAGE = """
bet {t1w}.nii.gz {t1w}_brain.nii.gz -m -R
flirt -in {t1w}_brain.nii.gz -ref template.nii.gz -out {t1w}_brain_flirt.nii.gz \
  -omat {t1w}_brain_flirt.mat -dof {dof}
convert_xfm -omat {t1w}_brain_flirt_inv.mat -inverse {t1w}_brain_flirt.mat
"""
PUBLISHED_FLAIR = """
flirt -in {flair}.nii.gz -ref {t1w}.nii.gz -out {flair}_flirt.nii.gz -omat {flair}_flirt.mat -dof 6
convert_xfm -omat to_template.mat -concat {t1w}_brain_flirt.mat {flair}_flirt.mat
flirt -in {flair}.nii.gz -ref template.nii.gz -out {flair}_flirt.nii.gz -omat {flair}_flirt.mat \
  -applyxfm -init to_template.mat -interp spline
flirt -in {t1w}_brain_mask.nii.gz -ref template.nii.gz -out {t1w}_brain_mask_flirt.nii.gz \
  -omat {t1w}_brain_mask_flirt.mat -applyxfm -init {t1w}_brain_flirt.mat -interp nearestneighbour
fslmaths {flair}_flirt.nii.gz -mas {t1w}_brain_mask_flirt.nii.gz {flair}_flirt_masked.nii.gz
"""


def _published(text: str, **names: object) -> list[str]:
    return [" ".join(line.split()) for line in text.format(**names).strip().split("\n")]


def _shapes(paths: list[str]) -> list[tuple[int, ...]]:
    return [nb.load(path).shape for path in paths]


def test_bold_runs_the_published_commands(tmp_path: Path, installed: Path) -> None:
    outputs = _run(tmp_path, modality="bold", resolution=4, high_pass_sigma=55)
    expected = [line for s in (1, 2) for line in _published(PUBLISHED_T1W, s=s)]
    for r, s in ((1, 2), (2, 1)):
        expected += _published(PUBLISHED_BOLD, r=r, s=s, mcf=f"run-{r}_bold_reoriented_mcf")
    assert _commands(installed) == sorted(expected)
    assert _shapes(outputs["images"]) == [(5, 6, 5, 4), (5, 6, 5, 5)]
    assert outputs["images"] == outputs["bold_std"]
    assert [np.asarray(nb.load(path).dataobj).max() for path in outputs["images"]] == [1, 2]
    assert _shapes(outputs["boldref_t1w"]) == [(8, 9, 7)] * 2
    assert all(quality["Passed"] for quality in outputs["t1w_quality"] + outputs["bold_quality"])
    for n_volumes, path in zip((4, 5), outputs["hmc_xfm"], strict=True):
        blocks = np.loadtxt(path).reshape(-1, 4, 4)
        np.testing.assert_array_equal(blocks[:, 0, 3], np.arange(n_volumes))
    for r, path in enumerate(outputs["confounds"], start=1):
        table = pd.read_csv(path, sep="\t")
        assert tuple(table.columns) == ENGINE_COLUMNS
        assert table["trans_x"].tolist() == list(range(3 + r))
        assert table["global_signal"].tolist() == [r] * (3 + r)
        np.testing.assert_allclose(table["framewise_displacement"][1:], 1)
    for port in (*BOLD, "confounds"):
        assert len(outputs[port]) == 2
    _check_masks(outputs)


def _check_masks(outputs: dict[str, Any]) -> None:
    """Check that the mask is where all volumes of all runs have data.

    Runs of 4 x 5 x 3 voxels of 3 mm show 12 x 15 x 9 mm from -1.5 mm; volume t has moved by t mm along x. Of
    the 2 mm grid they show planes 1 to 5 (run 2: 2 to 5), 0 to 6 and 0 to 3; a voxel of 4 mm averages a plane
    and its neighbours.
    """
    first, second = (np.argwhere(nb.load(path).dataobj) for path in outputs["bold_mask_std"])
    assert (first.min(axis=0).tolist(), first.max(axis=0).tolist(), len(first)) == ([1, 0, 0], [2, 2, 1], 12)
    assert (second.min(axis=0).tolist(), second.max(axis=0).tolist(), len(second)) == (
        [2, 0, 0],
        [2, 2, 1],
        6,
    )
    mask = nb.load(outputs["mask"])
    assert same_grid(mask, nb.load(outputs["images"][0]))
    np.testing.assert_array_equal(np.argwhere(mask.dataobj), second)


def test_one_run_without_registration_and_filter(tmp_path: Path, installed: Path) -> None:
    outputs = _run(
        tmp_path,
        n_runs=1,
        run_mm=30,  # as large as the T1w, on whose centre it stays
        modality="bold",
        registration="none",
        dof=12,
        resolution=4,
        shape=(7, 6, 4),
        individual_mask=True,
    )
    commands = _commands(installed)
    assert not [line for line in commands if "-bptf" in line]
    (to_t1w,) = [line for line in commands if "-dof" in line]
    assert "_mean_brain.nii.gz -ref ses-2_T1w_reoriented_brain.nii.gz" in to_t1w
    assert to_t1w.endswith("-dof 12")
    assert len([line for line in commands if line.endswith("-applyxfm -init centre.mat")]) == 2
    assert _shapes(outputs["images"]) == [(7, 6, 4, 4)]
    assert nb.load(outputs["mask"]).shape == (7, 6, 4)
    assert [len(outputs[port]) for port in (*BOLD, "confounds")] == [1] * (len(BOLD) + 1)
    assert np.loadtxt(outputs["hmc_xfm"][0]).shape == (16, 4)


@pytest.mark.parametrize(("modality", "registration", "dof"), [("T1w", "rigid", 6), ("FLAIR", "affine", 9)])
def test_anatomical_images_run_the_published_commands(
    tmp_path: Path, installed: Path, modality: str, registration: str, dof: int
) -> None:
    outputs = _run(tmp_path, modality=modality, registration=registration, resolution=2, shape=(10, 12, 8))
    expected = []
    for s in (1, 2):
        t1w, flair = (f"ses-{s}_{kind}_reoriented_corrected_ROI" for kind in ("T1w", "FLAIR"))
        expected += _published(PUBLISHED_HEAD, s=s, kind="T1w")
        expected += _published(PUBLISHED_MPRAGE, t1w=t1w, dof=dof)
        if modality == "FLAIR":
            expected += _published(PUBLISHED_HEAD, s=s, kind="FLAIR")
            expected += _published(PUBLISHED_FLAIR, t1w=t1w, flair=flair)
    assert _commands(installed) == sorted(expected)
    assert _shapes(outputs["images"]) == [(10, 12, 8)] * 2
    first, second = (np.asarray(nb.load(path).dataobj).max() for path in outputs["images"])
    assert second == pytest.approx(2 * first)
    qualities = outputs["t1w_quality"] + (outputs["flair_quality"] if modality == "FLAIR" else [])
    assert all(quality["Passed"] for quality in qualities)
    mask = nb.load(outputs["mask"])
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, nb.load(outputs["images"][0]).affine)
    assert all("_brain_mask" in path for path in outputs["t1w_mask"])


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("registration", ["none", "rigid", "affine"])
@pytest.mark.parametrize("resolution", [None, 4.0])
def test_every_graph_connects_and_calls_only_the_programs_it_declares(
    installed: Path, modality: str, registration: str, resolution: float | None
) -> None:
    workflow = init_fsl_preproc_wf(
        modality=modality, registration=registration, resolution=resolution, high_pass_sigma=55
    )
    nodes = generate_expanded_graph(workflow._create_flat_graph()).nodes()
    programs = {node.interface._cmd for node in nodes if hasattr(node.interface, "_cmd")}
    assert programs - {"N4BiasFieldCorrection"} == set(FSL_PROGRAMS[modality])
    assert programs <= {*PROGRAMS}
    kinds = {
        node.interface.inputs.output_type for node in nodes if hasattr(node.interface.inputs, "output_type")
    }
    assert kinds == {"NIFTI_GZ"}


def test_images_stop_where_a_registration_failed(tmp_path: Path, installed: Path) -> None:
    with pytest.raises(Exception, match=r"registration failed for ses-2_T1w\.nii\.gz \(correlation"):
        _run(tmp_path, modality="T1w", t1w_values=(1, UNALIGNED))


def test_fsl_and_ants_have_the_same_ports(installed: Path) -> None:
    for modality in MODALITIES:
        fsl, ants = (factory(modality=modality) for factory in (init_fsl_preproc_wf, init_ants_preproc_wf))
        for node in ("inputnode", "outputnode"):
            ports = [workflow.get_node(node).inputs.copyable_trait_names() for workflow in (fsl, ants)]
            assert ports[0] == ports[1]
        connected = [
            {
                port
                for *_, edge in workflow._graph.in_edges(workflow.get_node("outputnode"), data=True)
                for _, port in edge["connect"]
            }
            for workflow in (fsl, ants)
        ]
        assert connected[0] == connected[1] == set(MADE[modality])


def test_an_engine_gets_only_the_options_that_it_has(installed: Path) -> None:
    def hashes(**options: Any) -> dict[str, str]:
        workflow = init_preproc_wf("fsl", modality="FLAIR", **options)
        nodes = [workflow.get_node(name) for name in workflow.list_node_names()]
        return {node.fullname: node.inputs.get_hashval()[1] for node in nodes}

    others = {"registration_profile": "full", "random_seed": 3, "compute_mask": True, "registration": None}
    assert hashes() == hashes(**others)
    assert hashes() != hashes(dof=12)


@pytest.mark.parametrize("modality", MODALITIES)
def test_absent_fsl_is_refused_with_every_program_and_the_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FSLDIR", raising=False)
    with pytest.raises(InputError) as refusal:
        check_fsl(modality)
    for program in FSL_PROGRAMS[modality]:
        assert program in refusal.value.found
    for words in ("PATH is " + str(tmp_path), "FSLDIR is not set"):
        assert words in refusal.value.found
    for words in ("--preproc ants", "--preproc derivatives", "container"):
        assert words in refusal.value.remedy


def test_only_what_is_missing_is_named(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for modality in MODALITIES:
        check_fsl(modality)
    (tmp_path / "fsl" / "bin" / "mcflirt").unlink()
    check_fsl("T1w")
    with pytest.raises(InputError, match=r"not found on PATH: mcflirt \(") as refusal:
        check_fsl("bold")
    assert "FSLDIR" not in refusal.value.found
    monkeypatch.setenv("FSLDIR", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere, which is not a folder"):
        check_fsl("T1w")


def test_what_scripts_call_must_be_here(tmp_path: Path, installed: Path) -> None:
    """``bet`` is a script: without bc it says so and exits 0."""
    bet = tmp_path / "fsl" / "bin" / "bet"
    bet.write_text(
        "#!/bin/sh\n# needs dc only in this comment\nx=`echo 1 + 1 | bc -l`\n"
        "flirt -ref ${FSLDIR}/data/standard/MNI152_T1_2mm_brain\n"
    )
    with pytest.raises(InputError) as refusal:
        check_fsl("T1w")
    standard = tmp_path / "fsl" / "data" / "standard" / "MNI152_T1_2mm_brain"
    assert f"the script bet calls bc, {standard}, not found" in refusal.value.found
    assert "install bc and dc" in refusal.value.remedy
    standard.parent.mkdir(parents=True)
    standard.with_suffix(".nii.gz").touch()
    (tmp_path / "fsl" / "bin" / "bc").write_text("#!/bin/sh\n")
    (tmp_path / "fsl" / "bin" / "bc").chmod(0o755)
    check_fsl("T1w")


@pytest.mark.parametrize(
    ("text", "version"),
    [("6.0.7.4\n", "6.0.7.4"), ("6.0.0:13f0a5d\n", "6.0.0"), (None, "of unknown version")],
)
def test_the_version_is_that_of_fsls_folder(
    tmp_path: Path, installed: Path, text: str | None, version: str
) -> None:
    if text is not None:
        (tmp_path / "fsl" / "etc").mkdir()
        (tmp_path / "fsl" / "etc" / "fslversion").write_text(text)
    assert fsl_version() == version
    assert f"preprocessed with FSL {version} [@jenkinson2012]" in describe(init_fsl_preproc_wf())
    write_description(tmp_path, name="x", version="1", sources={}, software={"FSL": version})
    generated = json.loads((tmp_path / "dataset_description.json").read_text())["GeneratedBy"]
    assert generated == [{"Name": "bids_xai", "Version": "1"}, {"Name": "FSL", "Version": version}]


# Half of a scaled integer, as studyforrest's run has them: wrapped where the scaling is lost.
@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_reference_that_lost_its_run_ends_the_subject(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """MCFLIRT writes the type that it reads with scale 1; the run is converted before, and judged after."""
    program = tmp_path / "fsl" / "bin" / "mcflirt"
    if not kept:
        text = program.read_text()
        program.write_text(text.replace("astype(img.get_data_dtype())", "astype(np.int8)"))
    image = _image

    def scaled(path: Path, shape: tuple[int, ...], *more: Any, **named: Any) -> str:
        name = image(path, shape, *more, **named)
        if len(shape) == 4:
            img = nb.load(name)
            data = np.random.default_rng(0).uniform(0, 400, shape[:3])[..., None] + np.zeros(shape)
            out = nb.Nifti1Image(data, img.affine)
            out.header.set_data_dtype(np.int16)
            nb.save(out, name)  # nibabel fills the type's range: values times 80, slope 1 / 80
            assert 0.001 < nb.load(name).dataobj.slope < 0.1
        return name

    monkeypatch.setattr(f"{__name__}._image", scaled)
    if not kept:
        with pytest.raises(
            Exception, match=r"motion correction failed for run-1_bold\.nii\.gz \(correlation"
        ):
            _run(tmp_path, modality="bold", resolution=4)
        return
    outputs = _run(tmp_path, modality="bold", resolution=4)
    assert [quality["After"] for quality in outputs["reference_quality"]] == [1, 1]


@pytest.mark.parametrize(
    ("parameters", "found", "remedy"),
    [
        ({"modality": "t1w"}, "Unknown modality 't1w'", "did you mean 'T1w'"),
        ({"modality": "T1w", "registration": "syn"}, "'syn'", "--preproc ants"),
        ({"modality": "bold", "dof": 8}, "8 degrees", "12 is a full affine"),
    ],
)
def test_what_fsl_cannot_do_is_refused(parameters: dict[str, Any], found: str, remedy: str) -> None:
    with pytest.raises(InputError) as refusal:
        init_fsl_preproc_wf(**parameters)
    assert found in refusal.value.found
    assert remedy in refusal.value.remedy


def _mcflirt_of(head: np.ndarray, run: nb.Nifti1Image) -> np.ndarray:
    """Return MCFLIRT's matrices (volume to reference, FLIRT's coordinates) of movements of a head (RAS)."""
    to_fsl = np.linalg.inv(run.affine)
    to_fsl = np.diag([*run.header.get_zooms()[:3], 1]) @ to_fsl
    if np.linalg.det(run.affine) > 0:  # FLIRT's manual: the first axis is counted from its end
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = (run.shape[0] - 1) * run.header.get_zooms()[0]
        to_fsl = flip @ to_fsl
    return np.stack([to_fsl @ np.linalg.inv(matrix) @ np.linalg.inv(to_fsl) for matrix in head])


@pytest.mark.parametrize("first", [-1, 1])
def test_motion_has_one_convention_whatever_the_engine(tmp_path: Path, first: int) -> None:
    """The engines' tables of one moving head agree in sign, axis, direction, unit and centre."""
    shape = (24, 24, 24)
    affine = centred_affine(np.diag([first * 6.0, 6, 6]), shape)
    truth = np.array([[0, 0, 0, 0, 0, 0], [3, -2, 1.5, 0, 0, 0], [1, 2, -1, 0.05, -0.03, 0.08]], float)
    head = np.stack([rigid_matrix(parameters, CENTRE) for parameters in truth])
    run = SmoothHead().image(shape, affine, head)
    nb.save(run, tmp_path / "run.nii.gz")
    ours = EstimateMotion(in_file=str(tmp_path / "run.nii.gz")).run(cwd=str(tmp_path)).outputs
    own = pd.read_csv(ours.out_parameters, sep="\t", na_values=["n/a"])
    (tmp_path / "fsl").mkdir()
    np.savetxt(tmp_path / "hmc.mat", _mcflirt_of(np.load(ours.out_matrices), run).reshape(-1, 4))
    made = MotionParameters(in_motion=str(tmp_path / "hmc.mat"), in_reference=ours.out_reference)
    path = made.run(cwd=str(tmp_path / "fsl")).outputs.out_parameters
    assert tuple(Path(path).read_text().splitlines()[0].split("\t")) == ENGINE_COLUMNS[:25]
    table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    pd.testing.assert_frame_equal(table, own, rtol=1e-5, atol=1e-6)
    # The reference is volume 1: the truth seen from there.
    centre = head_centre(nb.load(ours.out_reference).get_fdata(), run)
    expected = rigid_parameters(head @ np.linalg.inv(head[1]), centre)
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    np.testing.assert_allclose(table[names], expected, atol=0.02)
    changes = np.abs(np.diff(table[names].to_numpy(), axis=0)) @ [1, 1, 1, 50, 50, 50]
    np.testing.assert_allclose(table["framewise_displacement"][1:], changes)


@pytest.mark.parametrize("axes", ["LAS", "RAS", "PIR", "SLP", "IPL", "ARI"])
def test_reoriented_images_show_the_same_in_the_order_of_the_template(tmp_path: Path, axes: str) -> None:
    rng = np.random.default_rng(3)
    data = rng.integers(-300, 300, (3, 4, 5, 2)).astype(np.int16)
    canonical = nb.Nifti1Image(data, np.diag([2.0, 3, 4, 1]))
    wanted = nb.orientations.axcodes2ornt(axes)
    img = canonical.as_reoriented(nb.orientations.ornt_transform(nb.io_orientation(canonical.affine), wanted))
    img.header.set_slope_inter(0.5, 7)
    nb.save(img, tmp_path / "image.nii.gz")
    img = nb.load(tmp_path / "image.nii.gz")
    out = nb.load(
        ReorientImage(in_file=str(tmp_path / "image.nii.gz")).run(cwd=str(tmp_path)).outputs.out_file
    )
    assert (out.get_data_dtype(), out.dataobj.slope, out.dataobj.inter) == (np.float32, 1, 0)
    assert nb.aff2axcodes(out.affine) == (("R" if np.linalg.det(img.affine) > 0 else "L"), "A", "S")
    assert np.sign(np.linalg.det(out.affine)) == np.sign(np.linalg.det(img.affine))
    np.testing.assert_array_equal(
        nb.as_closest_canonical(out).get_fdata(), nb.as_closest_canonical(img).get_fdata()
    )
    np.testing.assert_allclose(nb.as_closest_canonical(out).affine, nb.as_closest_canonical(img).affine)


@given(hnp.arrays(float, st.tuples(st.integers(1, 9), st.just(6)), elements=st.floats(-5, 5, width=16)))
def test_motion_does_not_depend_on_where_the_head_started_or_on_the_direction_of_time(
    motion: np.ndarray,
) -> None:
    table = pd.DataFrame(motion_regressors(motion))
    displacement = table["framewise_displacement"].to_numpy()
    assert table.iloc[0].isna().sum() == 13
    assert not table.iloc[1:].isna().any(axis=None)
    assert (displacement[1:] >= 0).all()
    steps = table.filter(regex="_derivative1$").to_numpy()[1:]
    np.testing.assert_allclose(motion[0] + steps.cumsum(axis=0), motion[1:], atol=1e-9)
    np.testing.assert_allclose(framewise_displacement(motion + np.arange(1.0, 7.0)), displacement, atol=1e-9)
    np.testing.assert_allclose(framewise_displacement(motion[::-1])[1:], displacement[:0:-1], atol=1e-9)


VIEWS = st.tuples(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    st.tuples(*[st.floats(-90, 90)] * 3),
)


def _view(shape: Any, zooms: Any, signs: Any, angles: Any, origin: Any) -> nb.Nifti1Image:
    affine = np.eye(4)
    affine[:3, :3] = nb.eulerangles.euler2mat(*angles) @ np.diag(np.multiply(zooms, signs))
    affine[:3, 3] = origin
    return nb.Nifti1Image(np.zeros(shape, np.float32), affine)


def _from_centre(view: nb.Nifti1Image, voxel: np.ndarray) -> np.ndarray:
    return view.affine[:3, :3] @ (voxel - (np.array(view.shape) - 1) / 2)


def _in_flirt(view: nb.Nifti1Image, voxel: np.ndarray) -> np.ndarray:
    """Voxel times size, first axis backwards in right-handed images: FLIRT's manual, in plain words."""
    counted = voxel.copy()
    if np.linalg.det(view.affine) > 0:
        counted[0] = view.shape[0] - 1 - voxel[0]
    return np.append(counted * np.sqrt(np.square(view.affine[:3, :3]).sum(axis=0)), 1)


@given(VIEWS, VIEWS, st.tuples(*[st.floats(-3, 9)] * 3))
def test_the_centre_matrix_moves_centre_to_centre_and_turns_nothing(a: Any, b: Any, at: Any) -> None:
    moving, reference = _view(*a), _view(*b)
    voxel = np.array(at)
    target = np.linalg.solve(reference.affine[:3, :3], _from_centre(moving, voxel))
    target += (np.array(reference.shape) - 1) / 2
    found = centre_matrix(moving, reference) @ _in_flirt(moving, voxel)
    np.testing.assert_allclose(found, _in_flirt(reference, target), atol=1e-8)


SMALL = st.tuples(*[st.floats(-0.2, 0.2)] * 3, *[st.floats(-4, 4)] * 3)


def _rigid(parameters: Any) -> np.ndarray:
    return nb.affines.from_matvec(nb.eulerangles.euler2mat(*parameters[:3]), parameters[3:])


@given(VIEWS, VIEWS, SMALL, st.lists(SMALL, min_size=1, max_size=3))
def test_coverage_is_where_every_volume_shows_the_point(a: Any, b: Any, there: Any, moved: Any) -> None:
    run, reference = _view(*a), _view(*b)
    # In the world: the head of the reference volume lies elsewhere than in the template, and moves.
    placed, heads = _rigid(there), [_rigid(parameters) for parameters in moved]
    from_run = fsl_from_voxel(run) @ np.linalg.inv(run.affine)
    to_reference = (
        fsl_from_voxel(reference) @ np.linalg.inv(reference.affine) @ placed @ np.linalg.inv(from_run)
    )
    motion = np.stack([from_run @ np.linalg.inv(head) @ np.linalg.inv(from_run) for head in heads])
    covered = coverage(run, reference, to_reference, motion)
    for voxel in np.ndindex(reference.shape):
        point = np.linalg.inv(placed) @ reference.affine @ [*voxel, 1]
        seen = [(np.linalg.inv(run.affine) @ head @ point)[:3] for head in heads]
        margin = min(np.minimum(at + 0.5, np.array(run.shape) - 0.5 - at).min() for at in seen)
        assert abs(margin) < 1e-6 or covered[voxel] == (margin > 0)


@given(
    st.tuples(*[st.integers(2, 24)] * 3),
    st.sampled_from([0.7, 1.0, 1.5]),
    st.sampled_from([2.0, 2.5, 3.0, 3.5, 4.0, 5.0]),
)
def test_the_analysis_grid_is_that_of_the_template(
    shape: tuple[int, int, int], voxel: float, analysis: float
) -> None:
    img = nb.Nifti1Image(np.ones(shape, np.float32), np.diag([-voxel, voxel, voxel, 1]))
    coarse, mask = reference_grid(img, img, 2.0, analysis)
    assert coarse.shape == mask.shape
    assert same_grid(downsample(coarse, analysis), downsample(img, analysis))
    plain, _ = reference_grid(img, img, 2.0)
    added = np.array(coarse.shape) - plain.shape
    assert (added >= 0).all()
    assert (added * 2.0 < analysis + 2).all()


def test_a_template_of_large_voxels_is_left_alone() -> None:
    img = nb.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([2, 2, 2, 1]))
    assert reference_grid(img, img, 2.0, 4.0) == (img, img)
