"""Recurrent cells, and the layer that runs them."""
