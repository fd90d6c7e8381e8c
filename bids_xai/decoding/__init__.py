"""Splits, the Gram-space softmax engine, and scores."""

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
)
