"""Lookup tables: the file, what is built from trials, and what is predicted from it."""

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
