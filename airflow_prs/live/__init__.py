"""
The live page inside Airflow: what a run of a step is doing, and the ways to change it.

It runs in Airflow's API server, never in a task. `plugin` is the face: Airflow finds it by its entry point. What it
shows comes from the run folder; what a user may see and change, Airflow decides in each request.
"""
