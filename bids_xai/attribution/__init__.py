"""What a classifier used: measures of a softmax layer, and explanations of networks.

An explanation of a network is a function ``f(network, x, start, **options)`` that returns a value per voxel,
shape (n, x, y, z), for volumes ``x`` of shape (n, 1, x, y, z) and the output that ``start`` names
(:class:`bids_xai.attribution.starts.Start`); its keyword-only parameters are its options on the command line.
"""

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

_LRP = "bids_xai.attribution.relevance"
_BACH = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
_ZEILER = "Zeiler and Fergus 2014, section 4.2"
EXPLANATIONS = Registry(
    "explanation",
    Entry(
        "saliency",
        "bids_xai.attribution.gradients:saliency",
        "absolute value of the gradient",
        "Simonyan et al. 2014",
    ),
    Entry(
        "gradient-x-input",
        "bids_xai.attribution.gradients:gradient_x_input",
        "gradient times input",
        "Shrikumar et al. 2016",
    ),
    Entry(
        "integrated-gradients",
        "bids_xai.attribution.gradients:integrated_gradients",
        "mean gradient on the way from a baseline, times the way",
        "Sundararajan et al. 2017, equation 3",
    ),
    Entry(
        "guided-backprop",
        "bids_xai.attribution.gradients:guided_backprop",
        "gradient of which rectifiers let only positive values pass",
        "Springenberg et al. 2015",
    ),
    Entry(
        "grad-cam",
        "bids_xai.attribution.gradcam:grad_cam",
        "activations of a layer weighted with their mean gradient, rectified",
        "Selvaraju et al. 2017, equations 1 and 2",
    ),
    Entry(
        "guided-grad-cam",
        "bids_xai.attribution.gradcam:guided_grad_cam",
        "Grad-CAM times guided backpropagation",
        "Selvaraju et al. 2017, section 3.2",
    ),
    Entry("deep-taylor", f"{_LRP}:deep_taylor", "deep Taylor decomposition, z+ rule", "Montavon et al. 2017"),
    Entry("lrp-0", f"{_LRP}:lrp_0", "layer-wise relevance propagation, basic rule", _BACH),
    Entry("lrp-epsilon", f"{_LRP}:lrp_epsilon", "layer-wise relevance propagation, epsilon rule", _BACH),
    Entry(
        "lrp-alpha-beta", f"{_LRP}:lrp_alpha_beta", "layer-wise relevance propagation, alpha-beta rule", _BACH
    ),
    Entry(
        "lrp-gamma",
        f"{_LRP}:lrp_gamma",
        "layer-wise relevance propagation, gamma rule",
        "Montavon et al. 2019",
    ),
    Entry(
        "lrp-composite",
        f"{_LRP}:lrp_composite",
        "layer-wise relevance propagation with a rule for every kind of layer",
        "Montavon et al. 2019; Kohlbrenner et al. 2020",
    ),
    Entry(
        "occlusion",
        "bids_xai.attribution.occlusion:occlusion",
        "drop of the output when a box is covered, mean over the boxes that cover the voxel",
        _ZEILER,
    ),
    Entry(
        "region-occlusion",
        "bids_xai.attribution.occlusion:region_occlusion",
        "drop of the output when a region of an atlas is covered",
        _ZEILER,
    ),
)
