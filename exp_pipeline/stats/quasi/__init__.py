"""Designs without randomisation: what changed, and what must hold for that to be an effect."""
