"""Pages, texts and caveats over results of real runs: every key that they read was written by a run.

The runs are small and of every kind: BOLD and T1w with the softmax layer, a network, and FSL's graph, whose
programs stand-ins take the place of (what graphs say of themselves is the same).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest

from bids_xai.cli.run import main
from bids_xai.reports.caveats import caveats
from bids_xai.reports.group import group_page
from bids_xai.reports.methods_text import citation_keys, methods_paragraphs
from bids_xai.reports.results import Results, load_results
from tests.datasets import QUICK, make_anatomical_dataset, make_dataset, write_mask
from tests.fsl_programs import put_on_path
from tests.written import COMMON, MANIFEST, NETWORKS, SETTINGS, SOFTMAX

# The first test waits for all runs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = ("--use-plugin", str(Path(__file__).with_name("linear.toml")), "--skip-bids-validation")
SHORT = ("--n-updates", "50", "--n-runs", "2", "--n-permutations", "19", "--n-null", "2", "--alpha", ".05",
         "--importance", "W", "--atlas", "aal")  # fmt: skip
T1W = ("--modality", "T1w", "--target", "participants:group", "--mask", "template")
# What a graph was called with beside the settings of the call, and what only sidecars of samples say.
OWN = {"training", "shift", "centred_on"}


class Recorder(Mapping[str, Any]):
    """A mapping that notes which keys are asked for."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.read: set[str] = set()
        self._content = {
            key: Recorder(value) if key == "settings" else value for key, value in content.items()
        }

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._content[key]

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


def _run(bids: Path, *words: str) -> Path:
    out = bids.parent / f"out-{bids.name}"
    given = [bids, out, "participant", "group", *HERE, *words, "-w", bids.parent / "work"]
    assert main([str(word) for word in given]) == 0
    return out


def _template(folder: Path) -> Path:
    """Write a head's brain on the grid of the heads."""
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in (20, 22, 18)], indexing="ij")
    data = np.where(sum(axis**2 for axis in axes) < 0.7, 100 + 20 * axes[0] + 10 * axes[1], 0)
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -4.0 * (np.array(data.shape) - 1)
    nb.save(nb.Nifti1Image(data.astype(np.float32), affine), folder / "tpl-Heads_T1w.nii.gz")
    return folder / "tpl-Heads_T1w.nii.gz"


def _brains(bids: Path) -> Path:
    """Make the heads what stand-ins take for brains that can be registered: 0 outside, not too bright."""
    for path in bids.glob("sub-*/anat/*_T1w.nii.gz"):
        image = nb.load(path)
        data = np.asarray(image.dataobj)
        nb.save(nb.Nifti1Image(np.where(data > 100, data / 10, 0).astype(np.float32), image.affine), path)
    return bids


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    template = str(_template(folder))
    heads = make_anatomical_dataset(folder / "heads", n_subjects=12)
    found = {
        "bold": _run(
            make_dataset(folder / "bold"), *QUICK[:2], *SHORT, "--preset", "gotsopoulos2018",
            "--window", "0", "6", "--window-anchor", "onset", "--resolution", "4", "--merge-events", "1",
            "--exchange-within", "subject", "--space", "MNI152NLin6Asym",
            "--mask", str(write_mask(folder / "mask.nii.gz")),
        ),
        "t1w": _run(heads, *T1W, *SHORT, "--preproc", "none", "--template", template, "--sloppy"),
    }  # fmt: skip
    network = heads.rename(folder / "network")
    found["network"] = _run(
        network, *T1W, "--preset", "boehle2019", "--preproc", "none", "--template", template, "--sloppy",
        "--resolution", "8", "--model", "tests.integration.small_network:small", "--cv", "kfold",
        "--n-folds", "2", "--explain", "gradient-x-input", "lrp-alpha-beta:beta=0.5", "--n-runs", "2",
        "--n-permutations", "3", "--alpha", ".25", "--atlas", "aal", "--stratify", "sex",
        "--baseline", "logistic-regression", "--max-epochs", "2",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        log = put_on_path(folder / "stand-ins", patch)
        found["fsl"] = _run(
            _brains(network.rename(folder / "fsl")), *T1W, *SHORT, "--preproc", "fsl", "--template", template
        )
        assert "flirt" in log.read_text()
    return found


def _recorded(out: Path) -> tuple[Recorder, str]:
    manifest = Recorder(json.loads((out / "group" / "results.json").read_text(encoding="utf-8")))
    results = Results(out, manifest)
    page, _ = group_page(results)
    text = " ".join(paragraph.text for paragraph in methods_paragraphs(results))
    assert caveats(results)
    assert citation_keys(results)
    return manifest, f"{page} {text}"


@pytest.fixture(scope="module")
def recorded(runs: dict[str, Path]) -> dict[str, tuple[Recorder, str]]:
    return {kind: _recorded(out) for kind, out in runs.items()}


def test_every_key_that_is_read_is_written_by_a_run(recorded: dict[str, tuple[Recorder, str]]) -> None:
    written: set[str] = set()
    read: set[str] = set()
    written_settings: set[str] = set()
    read_settings: set[str] = set()
    for manifest, _ in recorded.values():
        written |= {*manifest}
        read |= manifest.read
        written_settings |= {*manifest["settings"]}
        read_settings |= manifest["settings"].read
    assert read - written == set()
    # A setting that these runs leave unset is written where it is set, as every one of SETTINGS is.
    assert read_settings - written_settings - SETTINGS == set()
    assert {"preset", "sloppy"} <= read_settings & written_settings
    assert len(read) > 30
    assert len(read_settings) > 30


def test_what_tests_may_inject_is_what_runs_write(recorded: dict[str, tuple[Recorder, str]]) -> None:
    for kind, (manifest, _) in recorded.items():
        of_kind = NETWORKS if kind == "network" else SOFTMAX
        assert {*manifest} == COMMON | of_kind, kind
        assert {*manifest["settings"]} <= SETTINGS | OWN, kind
    assert set().union(*(manifest for manifest, _ in recorded.values())) == MANIFEST


def test_preset_and_short_cuts_are_said(recorded: dict[str, tuple[Recorder, str]]) -> None:
    bold, t1w, network, fsl = (recorded[kind][1] for kind in ("bold", "t1w", "network", "fsl"))
    assert "Settings follow a published analysis [@gotsopoulos2018], preset “gotsopoulos2018”, but" in bold
    assert "“window”" in bold
    assert "σ = 55 volumes" in bold
    assert "preset “boehle2019”, but for" in network
    for text in (t1w, network):
        assert "not for publication" in text
    for text in (bold, fsl):
        assert "not for publication" not in text


def test_fsls_text_is_that_of_its_graph(recorded: dict[str, tuple[Recorder, str]]) -> None:
    text = recorded["fsl"][1]
    assert "rigid with three scales (9 degrees of freedom)" in text
    assert "corrected with N4" in text
    assert "robustfov" in text
    assert "The template was Heads." in text
    assert "12 parameters" not in text


def test_atlas_and_maps_of_other_spaces_are_warned_of(runs: dict[str, Path]) -> None:
    for kind, space in (("bold", "MNI152NLin6Asym"), ("fsl", "Heads")):
        manifest = load_results(runs[kind]).manifest
        note = f"The atlas aal is in MNIColin27, the maps are in {space}: these are different brains"
        assert any(str(warning).startswith(note) for warning in manifest["warnings"])
        assert note in (runs[kind] / "group.html").read_text(encoding="utf-8")
        assert manifest["atlases"][0]["space"] == "MNIColin27"


def test_group_level_in_a_call_of_its_own_says_what_the_participant_level_did(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    out, bids = runs["t1w"], runs["fsl"].parent / "fsl"
    words = [bids, out, "group", *HERE, *T1W[:4], *SHORT, "-w", tmp_path / "work"]
    assert main([str(word) for word in words]) == 0
    results = load_results(out)
    assert results.settings["preproc"] == "none"
    assert "without registration" in results.manifest["preprocessing"][0]["text"]
    assert results.settings["sloppy"] is False
    assert "registration_profile" not in results.settings
