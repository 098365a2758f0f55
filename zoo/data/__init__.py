"""Raw things to arrays: audio, and the catalogue of data sets."""
