"""What a reader must know before reading heatmaps of networks."""

from __future__ import annotations

from bids_xai.attribution import RAW, SHARE
from bids_xai.reports.html import listed, number
from bids_xai.reports.networks_explanations import title_of
from bids_xai.reports.networks_summary import conclusions
from bids_xai.reports.results import Results

_GUIDED = ("guided-backprop", "guided-grad-cam")
_CAM = ("grad-cam", "guided-grad-cam")
_OCCLUSION = ("occlusion", "region-occlusion")
_OF_PEOPLE = ("between", "whole")
_LEAKY_WORDS = ("leak", "volume", "sample")


def method_names(results: Results) -> list[str]:
    """Return the registry names of the methods that a result's labels stand for, each once."""
    info = results.manifest.get("method_info") or {}
    names = [str((info.get(label) or {}).get("name") or label) for label in results.methods]
    return list(dict.fromkeys(names))


def is_leaky(results: Results) -> bool:
    """Return whether volumes of one person and run lie in both training and test samples."""
    split = str(results.manifest.get("cv") or "").lower()
    return any(word in split for word in _LEAKY_WORDS)


def network_caveats(results: Results) -> list[str]:
    """Return what a reader must know before reading heatmaps of networks, with citations."""
    return [
        *conclusions(results),
        "A heatmap says what this network uses for this decision, not where a disease or a signal is: a "
        "voxel may count because it cancels what others carry, and what the network does not need is "
        "missing [@haufe2014]. Another training may use other voxels [@eitel2019robustness].",
        "Mean heatmaps of a group hide people who differ from it: regions in the mean need not be in "
        f"anyone's own heatmap{_unequal(results)}. The pages of the subjects show "
        "single decisions. Means over few samples (wrong decisions above all) describe these few.",
        *_on_values(results),
        *_on_methods(method_names(results)),
        *_on_statistics(results),
        *_on_split(results),
        *on_groups(results),
    ]


def _of_use(results: Results, use: str, values: str) -> list[str]:
    """Return the titles of the methods whose heatmaps are shown, or tested, in values of a kind."""
    info = results.manifest.get("method_info") or {}
    return [title_of(results, name) for name in results.methods if (info.get(name) or {}).get(use) == values]


def _unequal(results: Results) -> str:
    raw = _of_use(results, "shown", RAW)
    return ", and participants with more relevance count more" if raw else ""


def _on_values(results: Results) -> list[str]:
    notes = []
    raw, shares = _of_use(results, "tested", RAW), _of_use(results, "tested", SHARE)
    if shares:
        notes.append(
            "Shares are parts of a whole: where a network looks less in one place, the others have more. A "
            "voxel that passes has more of the heatmaps than with permuted labels, for the class or against "
            "it."
        )
    if shares and _of_use(results, "shown", RAW):
        notes.append(
            "Mean heatmaps and sums by region are of relevance as it is, as published: they say how much, "
            "which grows with the output, and do not compare participants, classes or networks. What is "
            "tested are shares."
        )
    if raw:
        notes.append(
            f"Heatmaps of {listed(raw)} were averaged and tested as they are. Their size is that of the "
            "output, which is larger after training on labels that can be learnt: voxels without information "
            "pass, or none does where there is some. Do not read these p-values as evidence of where."
        )
    return notes


def _on_methods(names: list[str]) -> list[str]:
    notes = []
    if set(names) & set(_GUIDED):
        notes.append(
            "Guided backpropagation changes little when the parameters of the network are replaced by random "
            "ones [@adebayo2018]: it shows edges of the image more than what was learnt. See the "
            "randomisation test."
        )
    if "saliency" in names or "gradient-x-input" in names:
        notes.append(
            "Gradients say how the output reacts to a small change of a voxel, not how much of the output "
            "the voxel's value explains; they are noisy from voxel to voxel."
        )
    if any(name.startswith("lrp-") or name == "deep-taylor" for name in names):
        notes.append(
            "Heatmaps of layer-wise relevance propagation depend on its rule [@montavon2019]: a larger β "
            "shows more evidence against the class, ε removes weak and contradicting relevance, z+ and β = 0 "
            "show evidence in favour only. Rules that follow positive contributions can change little with "
            "the parameters of upper layers: compare rules, and see the randomisation test."
        )
    if set(names) & set(_CAM):
        notes.append(
            "Grad-CAM has the resolution of the layer that it looks at; the finer structure of its heatmap "
            "is interpolation. Each unit of the layer lies at the centre of its receptive field; where none "
            "lies, as at the borders of the volume under convolutions without padding, the heatmap is 0, "
            "although the network sees these voxels. It has one weight per channel and keeps what speaks for "
            "the class: where a dense layer reads places apart, or in samples without the evidence, it "
            "misses it and shows the rest of the brain, whose share is then larger than with permuted labels "
            "(in simulations .07 to .12 of the voxels without information had p ≤ .05). Do not conclude from "
            "Grad-CAM alone where the network looked."
        )
    if "integrated-gradients" in names:
        notes.append(
            "Integrated gradients depend on the baseline: a voxel that equals it gets nothing, however much "
            "the network uses it."
        )
    if set(names) & set(_OCCLUSION):
        notes.append(
            "Occlusion shows the network images unlike any it was trained on (out of distribution): part of "
            "a drop may be due to the box, not to what it hides. It depends on the baseline and the size of "
            "the box, and does not see what is represented twice."
        )
    return notes


def _on_statistics(results: Results) -> list[str]:
    manifest = results.manifest
    if not manifest.get("n_permutations"):
        return [
            "No networks were trained on permuted labels: structure in a heatmap is no evidence that there "
            "is something to find."
        ]
    notes = [
        "p-values of voxels hold for each voxel by itself; over all voxels a fraction α passes by chance. "
        "The family-wise counts stand beside them."
    ]
    smallest = manifest.get("smallest_p")
    unreachable = [alpha for alpha in manifest["alphas"] if smallest is not None and alpha < smallest]
    if unreachable:
        levels = ", ".join(f"{alpha:g}" for alpha in unreachable)
        notes.append(
            f"The smallest p that this design can reach is {number(smallest)}: no voxel can pass at α = "
            f"{levels}."
        )
    return notes


def on_groups(results: Results) -> list[str]:
    """Return what is to be known of groups of participants, and of those that were chosen to be alike."""
    undersampled = results.settings.get("undersample")
    if undersampled:
        return [
            f"Participants were left out until {listed(list(undersampled))} were balanced over the classes "
            "(--undersample). Choosing participants after the fact makes scores optimistic: those who are "
            "left out are often those whom the classifier would have got wrong [@snoek2019]."
        ]
    if results.manifest.get("permute") not in _OF_PEOPLE:
        return []
    return [
        "Groups of participants may differ in more than their class, such as age, sex, site or head motion, "
        "and the classifier uses what tells them apart. Choosing participants after the fact so that they "
        "differ no more (counterbalancing) makes scores optimistic [@snoek2019]; --exchange-within a column "
        "such as the site keeps p-values valid."
    ]


def _on_split(results: Results) -> list[str]:
    if is_leaky(results):
        return [
            "Volumes were split at random: neighbouring volumes and volumes of the same person lie on both "
            "sides, so that a network can recognise the person or the moment. The scores say nothing of new "
            "people or runs."
        ]
    return []
