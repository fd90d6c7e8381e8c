"""Splits, the Gram-space softmax engine, the training of networks, and scores."""

from bids_xai.registry import Entry, Registry

SPLITS = Registry(
    "cross-validation",
    Entry("subject", "bids_xai.decoding.splits:leave_one_subject_out", "leave one subject out"),
    Entry("run", "bids_xai.decoding.splits:leave_one_run_out", "leave one run out, within each subject"),
    Entry("kfold", "bids_xai.decoding.splits:grouped_kfold", "groups of subjects; of runs for one subject"),
    Entry(
        "event",
        "bids_xai.decoding.event_folds:leave_events_out",
        "leave the n-th event of every class of every run out, within each subject",
    ),
    Entry(
        "holdout",
        "bids_xai.decoding.partitions:holdout",
        "random splits of subjects with equal shares of the classes",
        "Klingenberg et al. 2021, section 2.1",
    ),
    Entry(
        "leaky-volumes",
        "bids_xai.decoding.partitions:leaky_volumes",
        "random splits of volumes, which leak between runs and subjects: to reproduce published figures only",
    ),
)
