"""Labels by people and judges: preference, agreement, calibration, few labels put to best use."""
