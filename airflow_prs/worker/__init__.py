"""
The worker runtime: what runs inside a worker process. It needs Python 3.9 or newer, pandas and pyarrow alone.

The supervisor starts `guard.py`, which starts `process.py`, both by path. `process.py` loads the other modules under
the private name ``_prs_worker``. `process.py` and `working.py` connect
`reading`, `writing` and `offered`, which do not import each other.
"""
