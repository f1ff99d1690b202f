"""Lookup tables (LUTs): the file, its calibration, predictions and drift; data and mathematics only."""

from latbench.lut.predict import Prediction, predict_latency, predict_ops
from latbench.lut.schema import Correction, Entry, Lut, Reference, Sentinel

__all__ = [
    "Correction",
    "Entry",
    "Lut",
    "Prediction",
    "Reference",
    "Sentinel",
    "predict_latency",
    "predict_ops",
]
