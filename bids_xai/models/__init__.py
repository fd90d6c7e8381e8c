"""Classifiers by the name of their paper."""

from bids_xai.registry import Entry, Registry

MODELS = Registry(
    "model",
    Entry(
        "softmax",
        "bids_xai.decoding.softmax:SgdParameters",
        "a softmax layer without hidden layers, trained by stochastic gradient descent",
        "Gotsopoulos et al. 2018, section 2.7",
    ),
)
