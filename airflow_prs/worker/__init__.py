"""
What runs inside a worker process: under any Python from 3.9 on, with pandas and pyarrow but without airflow_prs.

The supervisor starts `guard.py`, which starts `process.py`, both by path. `process.py` loads its neighbours under
private names; it and `working.py` put them together, the others do not know each other.
"""
