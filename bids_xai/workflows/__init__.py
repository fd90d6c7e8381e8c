"""The pipeline as nipype graphs."""

from bids_xai.registry import Entry, Registry

ENGINES = Registry(
    "preprocessing engine",
    Entry(
        "none",
        "bids_xai.workflows.preprocessing:init_aligned_preproc_wf",
        "images that are already aligned, taken as they are",
    ),
    Entry(
        "derivatives",
        "bids_xai.workflows.preprocessing:init_aligned_preproc_wf",
        "outputs of fMRIPrep or another program that writes BIDS derivatives",
    ),
)
