"""
Plan: list the input, cut it into mini-batches, deal them into shards, snapshot the code, write the manifest.

`listing` finds the files, `delimited`, `parquet` and `partitions` look into files and paths, `cutting` and `shards`
decide without reading anything, `snapshot` packs the code, `fingerprint` and `reuse` look for a finished run with the
same result; `planning` is the door to all of them.
"""
