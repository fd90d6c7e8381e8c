"""Classifiers by the name of their paper: a softmax layer, and networks on whole volumes.

A network is built by ``factory(shape, n_classes, **options)`` (:func:`bids_xai.models.build.build_network`),
takes volumes of shape (n, 1, *shape) and gives logits of shape (n, n_classes), or (n, 1) where there are two
classes: the logit of the second.
"""

from bids_xai.registry import Entry, Registry

SOFTMAX = Entry(
    "softmax",
    "bids_xai.decoding.softmax:SgdParameters",
    "a softmax layer without hidden layers, trained by stochastic gradient descent",
    "Gotsopoulos et al. 2018, section 2.7",
)
_EITEL_2021 = "Eitel et al. 2021, doi:10.1038/s41598-021-03785-9"
NETWORKS = Registry(
    "network",
    Entry(
        "boehle2019",
        "bids_xai.models.boehle2019:boehle2019",
        "four blocks of convolution, batch normalisation, ReLU and max-pooling, two dense layers",
        "Böhle et al. 2019, doi:10.3389/fnagi.2019.00194",
    ),
    Entry(
        "eitel2019",
        "bids_xai.models.eitel2019:eitel2019",
        "four convolutions of 64 filters with ELU, three max-poolings, one sigmoid unit",
        "Eitel et al. 2019, doi:10.1016/j.nicl.2019.102003",
    ),
    Entry(
        "adni-a",
        "bids_xai.models.pif:adni_a",
        "baseline of the ADNI data, last block 36 filters",
        _EITEL_2021,
    ),
    Entry(
        "adni-b",
        "bids_xai.models.pif:adni_b",
        "baseline of the ADNI data, 64 filters four times",
        _EITEL_2021,
    ),
    Entry("ukb-a", "bids_xai.models.pif:ukb_a", "baseline of the UK Biobank data, narrow", _EITEL_2021),
    Entry("ukb-b", "bids_xai.models.pif:ukb_b", "baseline of the UK Biobank data, wide", _EITEL_2021),
    Entry("ms-a", "bids_xai.models.pif:ms_a", "baseline of the multiple sclerosis data, narrow", _EITEL_2021),
    Entry("ms-b", "bids_xai.models.pif:ms_b", "baseline of the multiple sclerosis data, wide", _EITEL_2021),
    Entry(
        "adni-a-pif",
        "bids_xai.models.pif:adni_a_pif",
        "adni-a whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "adni-b-pif",
        "bids_xai.models.pif:adni_b_pif",
        "adni-b whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "ukb-a-pif",
        "bids_xai.models.pif:ukb_a_pif",
        "ukb-a whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "ukb-b-pif",
        "bids_xai.models.pif:ukb_b_pif",
        "ukb-b whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "ms-a-pif",
        "bids_xai.models.pif:ms_a_pif",
        "ms-a whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "ms-b-pif",
        "bids_xai.models.pif:ms_b_pif",
        "ms-b whose last block has a filter for every patch",
        _EITEL_2021,
    ),
    Entry(
        "patch-based",
        "bids_xai.models.pif:patch_based",
        "a network for every patch of the image, joined by dense layers",
        f"{_EITEL_2021}; after Liu et al. 2018, doi:10.1007/s12021-018-9370-4",
    ),
    Entry(
        "emotion",
        "bids_xai.models.emotion:emotion",
        "depthwise-separable convolutions on single volumes, global average pooling",
        "https://github.com/kamiljkon/neuro120fp",
    ),
)
MODELS = Registry("model", SOFTMAX, *NETWORKS.values())
