"""
Inputs: from a dataset to mini-batches.

`cut_input` is the face of this room. `files` finds the files, `text` and `columnar` cut them, `copies` writes
partitioned copies. `mini_batches` holds mini-batches in columns, as the manifest does.
"""
