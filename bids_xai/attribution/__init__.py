"""Measures of what a classifier used."""

from bids_xai.registry import Entry, Registry

IMPORTANCES = Registry(
    "importance measure",
    Entry("W", "bids_xai.attribution.linear:weights", "weights", "Pereira et al. 2009"),
    Entry(
        "Haufe",
        "bids_xai.attribution.patterns:haufe_pattern",
        "activation pattern of the weights in the training samples",
        "Haufe et al. 2014, equation 6",
    ),
    Entry("WX", "bids_xai.attribution.linear:weights_input", "weight x input", "Polyn et al. 2005"),
    Entry(
        "OD",
        "bids_xai.attribution.linear:output_difference",
        "change of the class's output when the voxel is set to zero",
        "Gotsopoulos et al. 2018, section 2.8",
    ),
    Entry(
        "LRP-W2",
        "bids_xai.attribution.linear:relevance_w2",
        "layer-wise relevance propagation, squared-weights rule",
        "Montavon et al. 2017",
    ),
    Entry(
        "LRP-z",
        "bids_xai.attribution.linear:relevance_z",
        "layer-wise relevance propagation, z rule",
        "Bach et al. 2015",
    ),
)
