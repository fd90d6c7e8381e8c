"""Data with known truth: whole BIDS datasets made from a template that comes with a package.

``bids_dataset.make_dataset`` writes one; ``parameters.PhantomParameters`` says what is in it.
"""
