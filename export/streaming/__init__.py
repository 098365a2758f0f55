"""Models that read a sequence chunk by chunk and keep what they need of the past."""

from zoo.export.streaming import states, windows  # noqa: F401  their rules are registered by this
from zoo.export.streaming.signature import Streamed, leads, streaming_signature

__all__ = ["Streamed", "leads", "streaming_signature"]
