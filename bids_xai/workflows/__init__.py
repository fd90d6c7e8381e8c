"""The pipeline as nipype graphs."""

from bids_xai.registry import Entry, Registry

ENGINES = Registry(
    "preprocessing engine",
    Entry(
        "ants",
        "bids_xai.workflows.ants:init_ants_preproc_wf",
        "raw images, registered with ANTs",
        "Avants et al. 2008, doi:10.1016/j.media.2007.06.004",
    ),
    Entry(
        "fsl",
        "bids_xai.workflows.fsl:init_fsl_preproc_wf",
        "raw images, registered with FSL as published",
        "Jenkinson et al. 2012, doi:10.1016/j.neuroimage.2011.09.015",
    ),
    Entry(
        "derivatives",
        "bids_xai.workflows.aligned:init_derivatives_preproc_wf",
        "outputs of fMRIPrep, sMRIPrep or another program that writes BIDS derivatives",
    ),
    Entry(
        "none",
        "bids_xai.workflows.aligned:init_none_preproc_wf",
        "images as they are; anatomical ones on the template's grid, by their affines or centred",
    ),
)
RAW_ENGINES = ("ants", "fsl")
SLOPPY = "sloppy"
PROFILES = (SLOPPY, "quick", "full")
# Modality -> the engines' port of its images: what is no T1w goes through one.
IMAGE_PORTS = {"bold": "bold", "T1w": "t1w", "FLAIR": "flair", "T2w": "flair"}
