"""
What the operators, the sensor, the trigger and the live page share of Airflow.

Public are `airflow.sdk.__all__`, `airflow.sdk.log.mask_secret`, `airflow.sdk.types`, `airflow.triggers.base` and
`airflow.plugins_manager.AirflowPlugin`, as Airflow's documentation says. Any other name of Airflow is imported in
this package alone. A comment says why, and with which versions of Airflow it was tried: from the lowest one that the
package allows to the one in the lock file.

`page_access` and `metadata` are for the API server alone; no task imports them.
"""
