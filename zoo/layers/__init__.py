"""Recurrent cells, and the layer that runs them."""

from zoo.layers.audio_augment import AudioAugment, SpectrogramMask
from zoo.layers.cell import Cell
from zoo.layers.echo_state import EchoState, EchoStateCell
from zoo.layers.gru_cell import GRUCell
from zoo.layers.indrnn import IndRNN, IndRNNCell, RecurrentBound, indrnn_stack
from zoo.layers.log_mel import LogMel
from zoo.layers.lstm_cell import LSTMCell
from zoo.layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from zoo.layers.recurrent import Recurrent
from zoo.layers.ridge_readout import RidgeReadout
from zoo.layers.running_level import RunningLevel

__all__ = [
    "AudioAugment",
    "LogMel",
    "RunningLevel",
    "SpectrogramMask",
    "Cell",
    "EchoState",
    "EchoStateCell",
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "LSTMCell",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "Recurrent",
    "RecurrentBound",
    "RidgeReadout",
    "indrnn_stack",
]
