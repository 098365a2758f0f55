"""Ready data, model and training for one task each; every recipe has the same shape."""
