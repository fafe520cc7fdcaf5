"""What entry scripts import: EntryScript, and stand-ins for modules of Azure ML."""
