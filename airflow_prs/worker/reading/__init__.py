"""Pieces of files as the argument of run()."""
