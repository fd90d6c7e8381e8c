"""What a classifier used: measures of a softmax layer, and explanations of networks.

An explanation of a network is a function ``f(network, x, start, **options)`` that returns a value per voxel,
shape (n, x, y, z), for volumes ``x`` of shape (n, 1, x, y, z) and the output that ``start`` names
(:class:`bids_xai.attribution.starts.Start`); its keyword-only parameters are its options on the command line.
"""

from bids_xai.errors import InputError
from bids_xai.registry import Attribution, Registry

# What maps are averaged, compared and tested as: shares where the scale has no meaning, or as they are.
SHARE, RAW = "share", "raw"
MAP_VALUES = (SHARE, RAW)
# What a map without a meaningful scale is divided by: the sum of its absolute values; the norm of what every
# training sample has added to the weights; that norm times the slope of the output.
SUM, NORM, SLOPE = "sum", "norm", "slope"


def shown_as(map_values: str, shown_values: str | None) -> str:
    """Return what maps are shown as: as they are tested where nothing else is asked for.

    Raises
    ------
    InputError
        Shares would be shown of what is tested as it is.
    """
    if map_values == RAW and shown_values == SHARE:
        raise InputError(
            "Maps that are tested as they are (map_values raw) and shown as shares (shown_values share).",
            "shares that are tested, or raw values that are shown",
            "leave one of the two out",
        )
    return shown_values or map_values


_OUTPUT = "the output that is explained, to which they sum: it is larger where labels could be learnt"
_CHANGE = "the output that is explained: a drop can be as large as it is"
_SLOPE = (
    "the slope of the output, which is steeper where labels could be learnt, and next to nothing for a "
    "probability near 0 or 1"
)
_FIT = "how hard the labels are to fit: permuted labels, which nothing predicts, give larger weights"
_FIT_AND_SLOPE = f"{_FIT}, and the slope of the output is another where they could be learnt"

IMPORTANCES = Registry(
    "importance measure",
    Attribution(
        "W",
        "bids_xai.attribution.linear:weights",
        "weights",
        "Pereira et al. 2009",
        scale=_FIT,
        scale_has_meaning=False,
        divisor=NORM,
        t_correlation=0.99,
        power=1.1,
    ),
    Attribution(
        "Haufe",
        "bids_xai.attribution.patterns:haufe_pattern",
        "activation pattern of the weights in the training samples",
        "Haufe et al. 2014, equation 6",
        power=0.6,
        t_correlation=0.99,
    ),
    Attribution(
        "WX",
        "bids_xai.attribution.linear:weights_input",
        "weight x input",
        "Polyn et al. 2005",
        scale=_FIT,
        scale_has_meaning=False,
        divisor=NORM,
        power=0.9,
    ),
    Attribution(
        "OD",
        "bids_xai.attribution.linear:output_difference",
        "change of the class's output when the voxel is set to zero",
        "Gotsopoulos et al. 2018, section 2.8",
        scale=_FIT_AND_SLOPE,
        scale_has_meaning=False,
        divisor=SLOPE,
        power=0.8,
    ),
    Attribution(
        "LRP-W2",
        "bids_xai.attribution.linear:relevance_w2",
        "layer-wise relevance propagation, squared-weights rule",
        "Montavon et al. 2017",
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
        power=0.2,
    ),
    Attribution(
        "LRP-z",
        "bids_xai.attribution.linear:relevance_z",
        "layer-wise relevance propagation, z rule",
        "Bach et al. 2015",
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
        power=0.3,
    ),
)

_LRP = "bids_xai.attribution.relevance"
_BACH = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
_ZEILER = "Zeiler and Fergus 2014, section 4.2"
EXPLANATIONS = Registry(
    "explanation",
    Attribution(
        "saliency",
        "bids_xai.attribution.gradients:saliency",
        "absolute value of the gradient",
        "Simonyan et al. 2014",
        scale=_SLOPE,
        scale_has_meaning=False,
    ),
    Attribution(
        "gradient-x-input",
        "bids_xai.attribution.gradients:gradient_x_input",
        "gradient times input",
        "Shrikumar et al. 2016",
        scale=_SLOPE,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "integrated-gradients",
        "bids_xai.attribution.gradients:integrated_gradients",
        "mean gradient on the way from a baseline, times the way",
        "Sundararajan et al. 2017, equation 3",
        scale=_CHANGE,
        scale_has_meaning=False,
    ),
    Attribution(
        "guided-backprop",
        "bids_xai.attribution.gradients:guided_backprop",
        "gradient of which rectifiers let only positive values pass",
        "Springenberg et al. 2015",
        scale=_SLOPE,
        scale_has_meaning=False,
        check="bids_xai.attribution.gradients:check_rectifiers",
    ),
    Attribution(
        "grad-cam",
        "bids_xai.attribution.gradcam:grad_cam",
        "activations of a layer weighted with their mean gradient, rectified",
        "Selvaraju et al. 2017, equations 1 and 2",
        scale=_SLOPE,
        scale_has_meaning=False,
        check="bids_xai.attribution.gradcam:check_grad_cam",
    ),
    Attribution(
        "guided-grad-cam",
        "bids_xai.attribution.gradcam:guided_grad_cam",
        "Grad-CAM times guided backpropagation",
        "Selvaraju et al. 2017, section 3.2",
        scale=_SLOPE,
        scale_has_meaning=False,
        check="bids_xai.attribution.gradcam:check_guided_grad_cam",
    ),
    Attribution(
        "deep-taylor",
        f"{_LRP}:deep_taylor",
        "deep Taylor decomposition, z+ rule",
        "Montavon et al. 2017",
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "lrp-0",
        f"{_LRP}:lrp_0",
        "layer-wise relevance propagation, basic rule",
        _BACH,
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "lrp-epsilon",
        f"{_LRP}:lrp_epsilon",
        "layer-wise relevance propagation, epsilon rule",
        _BACH,
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "lrp-alpha-beta",
        f"{_LRP}:lrp_alpha_beta",
        "layer-wise relevance propagation, alpha-beta rule",
        _BACH,
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "lrp-gamma",
        f"{_LRP}:lrp_gamma",
        "layer-wise relevance propagation, gamma rule",
        "Montavon et al. 2019",
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "lrp-composite",
        f"{_LRP}:lrp_composite",
        "layer-wise relevance propagation with a rule for every kind of layer",
        "Montavon et al. 2019; Kohlbrenner et al. 2020",
        scale=_OUTPUT,
        scale_has_meaning=False,
        sums_to_output=True,
    ),
    Attribution(
        "occlusion",
        "bids_xai.attribution.occlusion:occlusion",
        "drop of the output when a box is covered, mean over the boxes that cover the voxel",
        _ZEILER,
        scale=_CHANGE,
        scale_has_meaning=False,
        check="bids_xai.attribution.occlusion:check_boxes",
    ),
    Attribution(
        "region-occlusion",
        "bids_xai.attribution.occlusion:region_occlusion",
        "drop of the output when a region of an atlas is covered",
        _ZEILER,
        scale=_CHANGE,
        scale_has_meaning=False,
    ),
)
