"""
Reports of a run that ended.

`reports` is the way in; the other modules write one file each.
"""
