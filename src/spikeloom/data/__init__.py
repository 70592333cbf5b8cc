"""Data sets held in memory: training, validation and test part, never downloaded."""

from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits, data_root, load_data
from spikeloom.data.tensors import splits_from_tensors

__all__ = [
    "DATA",
    "DataInfo",
    "Samples",
    "Scaling",
    "Splits",
    "data_root",
    "load_data",
    "splits_from_tensors",
]
