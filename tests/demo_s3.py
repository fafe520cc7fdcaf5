"""
`make demo-s3`: run example_object_storage on a local S3 server, and print the result.

The server is SeaweedFS. It has the pages of the documentation as texts, and is stopped at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.object_servers import ACCESS_KEY, REGION, SECRET_KEY, s3_client, serve, stop_servers

DOCS = Path(__file__).parent.parent / "docs"
FOLDER = "demo"
FIRST_ROWS = 5


def main():
    print("A run of example_object_storage takes about half a minute. Its log is .airflow/demo-s3.log", flush=True)
    try:
        print(run(serve("seaweed")))
    finally:
        stop_servers()


def run(server):
    client = s3_client(server.url)
    for page in DOCS.glob("*.md"):
        client.upload_file(str(page), server.bucket.name, f"{FOLDER}/texts/{page.name}")
    connection = {
        "conn_type": "aws",
        "login": ACCESS_KEY,
        "password": SECRET_KEY,
        "extra": {"endpoint_url": server.url, "region_name": REGION},
    }
    folder = f"s3://demo_s3@{server.bucket.name}/{FOLDER}"
    environment = {"AIRFLOW_CONN_DEMO_S3": json.dumps(connection), "AIRFLOW_VAR_OBJECT_STORAGE": folder}
    log = Path(os.environ["AIRFLOW_HOME"], "demo-s3.log")
    with log.open("wb") as output:
        command = [Path(sys.executable).parent / "airflow", "dags", "test", "example_object_storage"]
        done = subprocess.run(
            command, check=False, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode:
        raise SystemExit("\n".join(log.read_text(encoding="utf-8").splitlines()[-20:]))
    names = [found["Key"] for found in client.list_objects_v2(Bucket=server.bucket.name, Prefix=FOLDER)["Contents"]]
    result = client.get_object(Bucket=server.bucket.name, Key=f"{FOLDER}/result/parallel_run_step.txt")
    rows = result["Body"].read().decode().splitlines()
    return "\n".join(
        [
            "",
            f"Result        {folder}/result/parallel_run_step.txt",
            *(f"{'' if number else 'First rows':<13} {row}" for number, row in enumerate(rows[:FIRST_ROWS])),
            f"Rows          {len(rows):,}",
            f"Run folder    {sum('/_parallel_run/' in name for name in names):,} of {len(names):,} objects",
            f"Log           {log}",
        ]
    )


if __name__ == "__main__":
    main()
