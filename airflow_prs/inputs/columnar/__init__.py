"""Cutting Parquet and Arrow files by their row groups and record batches, and the types of their columns."""
