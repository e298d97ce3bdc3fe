"""Turns a spec into a trained encoder: torch alone. Told its device, its place among the ranks and where to report."""
