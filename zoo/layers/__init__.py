"""Recurrent cells, and the layer that runs them."""

from zoo.layers.additive_attention import AdditiveAttention
from zoo.layers.annotation import Annotation
from zoo.layers.attentive_recurrent import AttentiveRecurrent
from zoo.layers.audio_augment import AudioAugment, SpectrogramMask
from zoo.layers.batch_norm_lstm import BatchNormLSTM
from zoo.layers.batch_norm_lstm_cell import BatchNormLSTMCell
from zoo.layers.calendar_cycles import CalendarCycles
from zoo.layers.cell import Cell
from zoo.layers.deep_ar import DeepAR
from zoo.layers.dot_attention import DotAttention
from zoo.layers.echo_state import EchoState, EchoStateCell
from zoo.layers.fake_quantize import FakeQuantized, FakeQuantizedCell, fake_quantize
from zoo.layers.fast_grnn import FastGRNN, FastGRNNCell, KeepLargest
from zoo.layers.gru_cell import GRUCell
from zoo.layers.indrnn import IndRNN, IndRNNCell, RecurrentBound, indrnn_stack
from zoo.layers.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMCell
from zoo.layers.lif import LIF, LIFCell
from zoo.layers.linear_recurrence import LinearCell, LinearRecurrence
from zoo.layers.log_mel import LogMel
from zoo.layers.lstm_cell import LSTMCell
from zoo.layers.masked_norm import MaskedNorm
from zoo.layers.min_gru import MinGRU, MinGRUCell
from zoo.layers.min_lstm import MinLSTM, MinLSTMCell
from zoo.layers.path_quantiles import PathQuantiles
from zoo.layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from zoo.layers.recurrent import Recurrent
from zoo.layers.residual_cell import ResidualCell
from zoo.layers.residual_quantiles import ResidualQuantiles
from zoo.layers.ridge_readout import RidgeReadout
from zoo.layers.running_level import RunningLevel
from zoo.layers.sampled_cell import SampledCell
from zoo.layers.seg_rnn import SegRNN
from zoo.layers.sequence_pooling import AttentionPooling, MaxPooling
from zoo.layers.series_scale import SeriesScale
from zoo.layers.slstm import SLSTM, SLSTMCell
from zoo.layers.stacked_cells import StackedCells
from zoo.layers.static_covariates import StaticCovariates
from zoo.layers.variational_dropout import VariationalDropout
from zoo.layers.word_dropout import WordDropout
from zoo.layers.zoneout import Zoneout, ZoneoutGRU, ZoneoutLSTM

__all__ = [
    "LIF",
    "SLSTM",
    "AdditiveAttention",
    "Annotation",
    "AttentionPooling",
    "AttentiveRecurrent",
    "AudioAugment",
    "BatchNormLSTM",
    "BatchNormLSTMCell",
    "CalendarCycles",
    "Cell",
    "DeepAR",
    "DotAttention",
    "EchoState",
    "EchoStateCell",
    "FakeQuantized",
    "FakeQuantizedCell",
    "FastGRNN",
    "FastGRNNCell",
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "KeepLargest",
    "LIFCell",
    "LSTMCell",
    "LayerNormLSTM",
    "LayerNormLSTMCell",
    "LinearCell",
    "LinearRecurrence",
    "LogMel",
    "MaskedNorm",
    "MaxPooling",
    "MinGRU",
    "MinGRUCell",
    "MinLSTM",
    "MinLSTMCell",
    "PathQuantiles",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "Recurrent",
    "RecurrentBound",
    "ResidualCell",
    "ResidualQuantiles",
    "RidgeReadout",
    "RunningLevel",
    "SLSTMCell",
    "SampledCell",
    "SegRNN",
    "SeriesScale",
    "SpectrogramMask",
    "StackedCells",
    "StaticCovariates",
    "VariationalDropout",
    "WordDropout",
    "Zoneout",
    "ZoneoutGRU",
    "ZoneoutLSTM",
    "fake_quantize",
    "indrnn_stack",
]
