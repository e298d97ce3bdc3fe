"""Datasets as their owners distribute them, one module a set.

Each has `read`, which turns the owner's files into a Source, `stand_in`, which writes a tiny generated set in the
same layout, and `WHERE`, which says where the real one can be had.
"""
