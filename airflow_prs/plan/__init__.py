"""
Plan: list the input, cut it into mini-batches, deal them into shards, snapshot the code, write the manifest.

`listing` finds the files and `paths` holds them in columns, `delimited`, `parquet` and `partitions` look into files and
paths, `cutting`, `record_cutting`, `row_groups` and `shards` decide without reading anything, `snapshot` packs the
code, `fingerprint` and `reuse` look for a finished run with the same result; `planning` is the door to all of them.
"""
