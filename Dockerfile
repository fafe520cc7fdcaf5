# Airflow's official image in the version of uv.lock, with this package and the packages of the examples.
# docker-compose.yaml uses it.
FROM apache/airflow:3.3.2-python3.13

# A new volume that is mounted on one of these folders takes over the owner of the folder.
RUN mkdir --parents "${AIRFLOW_HOME}/demo" "${AIRFLOW_HOME}/run_folders" "${AIRFLOW_HOME}/logs"

# The constraints of the image and the pinned version of Airflow keep pip from changing the installed packages.
RUN --mount=type=bind,target=/tmp/airflow_prs,rw \
    pip install --no-cache-dir --constraint "${HOME}/constraints.txt" \
    "apache-airflow==${AIRFLOW_VERSION}" "/tmp/airflow_prs[examples,s3]"
