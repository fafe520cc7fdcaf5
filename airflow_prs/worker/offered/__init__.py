"""Modules that entry scripts import: EntryScript, and replacements for modules of Azure ML."""
