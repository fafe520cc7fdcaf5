"""
What an author writes, checked when the DAG is parsed.

`config` holds ParallelRunConfig, `datasets` the datasets, `parameters` PipelineParameter, `environment` Environment,
`compute` ComputeTarget, `arguments` the arguments of the entry script. `declaring` lets the step report the problems of
all of them together, `entry_check` inspects the entry script. The others read files and check values for them.
"""
