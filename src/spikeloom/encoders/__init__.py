"""Encoders: how a batch of samples becomes a train of inputs, time first."""

from spikeloom.encoders.base import ENCODERS, Encoder

__all__ = ["ENCODERS", "Encoder"]
