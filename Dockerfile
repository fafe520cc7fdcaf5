# Airflow's official image, of the version in uv.lock, with this package and what the examples need; see
# docker-compose.yaml.
FROM apache/airflow:3.3.2-python3.13

# A volume that is mounted here for the first time takes over the owner.
RUN mkdir --parents "${AIRFLOW_HOME}/demo" "${AIRFLOW_HOME}/run_folders" "${AIRFLOW_HOME}/logs"

# With the constraints that the image was made with, and Airflow named, so that what is there stays as it is.
RUN --mount=type=bind,target=/tmp/airflow_prs,rw \
    pip install --no-cache-dir --constraint "${HOME}/constraints.txt" \
    "apache-airflow==${AIRFLOW_VERSION}" "/tmp/airflow_prs[examples]"
