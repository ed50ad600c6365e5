"""Designs beyond parallel arms: allocation that learns, interleaving, switchbacks, units that touch."""
