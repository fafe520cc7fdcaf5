"""Cut Parquet and Arrow files by their row groups and record batches, and find the types of their columns."""
