"""Copies of tables that are partitioned by the values of columns."""
