"""
Plan: list the input, cut it into mini-batches, deal them into shards, pack the code, write the manifest.

`planning` is the face of this room. `queries` exports the rows of queries to files, `shards` deals mini-batches into
shards, `snapshot` packs the code, `fingerprint` and `reuse` find an earlier run with the same result.
`script_options` inspects the entry script without running it, `result_settings` reads the arguments of to_csv.
`airflow_prs.inputs` lists and cuts the files.
"""
