"""What chance would give: permutation, thresholds, reproducibility, univariate tests."""

from bids_xai.registry import Entry, Registry

PERMUTATIONS = Registry(
    "exchangeability",
    Entry(
        "subject",
        "bids_xai.inference.permutation:within_subject",
        "labels of whole events are exchanged within a subject",
        "Winkler et al. 2014",
    ),
    Entry(
        "run",
        "bids_xai.inference.permutation:within_run",
        "labels of whole events are exchanged within a run",
        "Winkler et al. 2014",
    ),
    Entry(
        "fold",
        "bids_xai.inference.permutation:within_fold",
        "labels of whole events are exchanged among those that a fold leaves out of a run",
        "Winkler et al. 2014",
    ),
    Entry(
        "between",
        "bids_xai.inference.permutation:between_subjects",
        "labels of whole people are exchanged between people, for groups such as patients and controls",
        "Winkler et al. 2015, doi:10.1016/j.neuroimage.2015.05.092",
    ),
    Entry(
        "whole",
        "bids_xai.inference.permutation:whole_blocks",
        "the labels of all sessions of people are exchanged, in their order, between people with as many",
        "Winkler et al. 2015, doi:10.1016/j.neuroimage.2015.05.092 (whole-block exchange)",
    ),
    Entry(
        "all",
        "bids_xai.inference.permutation:over_all",
        "labels of single samples are exchanged over everyone",
        "Gotsopoulos et al. 2018, section 2.9.1",
    ),
)
