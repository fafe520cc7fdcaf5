"""
From a dataset to mini-batches.

`cut_input` is the way in. `files` finds the files, `text` and `columnar` cut them, `copies` writes partitioned copies;
`mini_batches` holds what was cut in columns, as the manifest does.
"""
