"""
What the operators, the sensor and the trigger share of Airflow.

Public are `airflow.sdk.__all__`, `airflow.sdk.log.mask_secret`, `airflow.sdk.types` and `airflow.triggers.base`, as
Airflow's documentation says. Any other name of Airflow is imported in this package alone. A comment says why, and with
which versions of Airflow it was tried: from the lowest one that the package allows to the one in the lock file.
"""
