"""Partitioned copies: tables that plan copies into a folder for each combination of the values of key columns."""
