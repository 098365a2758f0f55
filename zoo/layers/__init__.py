"""Recurrent cells, and the layer that runs them."""

from zoo.layers.cell import Cell
from zoo.layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from zoo.layers.recurrent import Recurrent

__all__ = ["Cell", "PeepholeLSTM", "PeepholeLSTMCell", "Recurrent"]
