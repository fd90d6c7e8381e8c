"""From a BIDS dataset to thresholded importance maps of what a classifier used."""

__version__ = "0.1.0"
