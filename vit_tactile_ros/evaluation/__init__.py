"""What the exits answer on labelled touches: logits, metrics, calibration, risk control, pictures."""
