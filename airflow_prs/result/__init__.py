"""
Publishing the result.

`merge` is the way in: it reads the committed rows in input order and publishes one file.
"""
