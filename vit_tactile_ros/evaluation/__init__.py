"""Evaluation of the exits on labelled touches: logits, metrics, calibration, risk control, figures."""
