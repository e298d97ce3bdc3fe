"""Regenerates the tables of the BYOL paper from tracked runs."""

__version__ = "0.1.0"
