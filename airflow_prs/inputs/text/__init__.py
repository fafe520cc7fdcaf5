"""Cutting delimited text and JSON lines between records, and finding out the types of their columns."""
