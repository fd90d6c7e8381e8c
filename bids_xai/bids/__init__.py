"""What to read from BIDS datasets, how to name what is written, descriptions and sidecars."""
