"""
What all doors share; like them it may know Airflow.

`exceptions` is where Airflow's versions differ, `failures` turns our errors into Airflow's, `handover` is what plan
leaves for the other tasks, `shard_states` what Airflow says of the shards, `supervision` who watches this process.
"""
