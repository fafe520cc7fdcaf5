"""What a compute target says of a pod reaches the pod, as Airflow's own pod generator makes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from airflow.sdk import DAG

from airflow_prs import ComputeTarget, Environment, FileDataset, ParallelRunConfig, ParallelRunOperator
from airflow_prs.config.compute import load_compute_targets
from airflow_prs.errors import ConfigError
from airflow_prs.provider_info import get_provider_info

pod_generator = pytest.importorskip("airflow.providers.cncf.kubernetes.pod_generator")
from kubernetes.client import models as k8s  # noqa: E402

TEMPLATE = """
apiVersion: v1
kind: Pod
metadata: {name: template}
spec:
  serviceAccountName: airflow-worker
  containers:
    - name: base
      image: airflow:template
      env: [{name: TEMPLATE, value: "yes"}]
      volumeMounts: [{name: dags, mountPath: /opt/airflow/dags}]
  volumes: [{name: dags, emptyDir: {}}]
"""
POD = """
metadata: {labels: {team: digits}}
spec:
  terminationGracePeriodSeconds: 60
  nodeSelector: {disk: fast}
  tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]
  containers:
    - name: base
      resources:
        requests: {cpu: "2", memory: 3Gi}
        limits: {cpu: 2, memory: 4Gi}
      volumeMounts: [{name: runs, mountPath: /mnt/runs}]
  volumes: [{name: runs, persistentVolumeClaim: {claimName: runs}}]
"""


def pod(text=POD):
    return pod_generator.PodGenerator.deserialize_model_dict(yaml.safe_load(text))


@pytest.fixture
def make_dag(tmp_path):
    """A DAG with a step of a compute target, as the scheduler reads it from the database."""
    from airflow.serialization.serialized_objects import DagSerialization

    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")

    def make(compute_target):
        with DAG("pods", schedule=None) as dag:
            ParallelRunOperator(
                task_id="step",
                parallel_run_config=ParallelRunConfig(
                    environment=Environment.current(),
                    source_directory=str(tmp_path),
                    entry_script="score.py",
                    error_threshold=0,
                    output_action="append_row",
                    compute_target=compute_target,
                    node_count=2,
                ),
                inputs=[FileDataset("/data/in")],
                output="/data/out",
            )
        return DagSerialization.from_dict(DagSerialization.to_dict(dag))

    return make


def make_pod(dag, task, map_index=-1):
    """Make the pod of a task instance as the KubernetesExecutor does."""
    override = pod_generator.PodGenerator.from_obj(dag.get_task(task).executor_config)
    return pod_generator.PodGenerator.construct_pod(
        dag_id=dag.dag_id,
        task_id=task,
        pod_id="pods-step",
        try_number=1,
        kube_image="airflow:configured",
        date=None,
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=override,
        base_worker_pod=pod(TEMPLATE),
        namespace="airflow",
        scheduler_job_id="1",
        run_id="run",
        map_index=map_index,
    )


def declared(tmp_path, text=POD):
    """The target that a file declares."""
    path = tmp_path / "targets.yaml"
    path.write_text(yaml.safe_dump({"pods": {"executor_config": {"pod_override": yaml.safe_load(text)}}}))
    return load_compute_targets(path)["pods"]


@pytest.fixture(params=["in the DAG file", "in a YAML file"])
def target(request, tmp_path):
    if request.param == "in a YAML file":
        return declared(tmp_path)
    return ComputeTarget(executor_config={"pod_override": pod()})


def test_a_pod_override_reaches_the_pod_of_each_shard(make_dag, target):
    made = make_pod(make_dag(target), "step.mini_batches", map_index=1)
    (container,) = made.spec.containers
    assert container.name == "base"
    assert container.resources.limits == {"cpu": "2", "memory": "4Gi"}
    assert container.resources.requests == {"cpu": "2", "memory": "3Gi"}
    assert made.spec.termination_grace_period_seconds == 60
    assert made.spec.node_selector == {"disk": "fast"}
    assert [toleration.key for toleration in made.spec.tolerations] == ["gpu"]
    assert made.metadata.labels["team"] == "digits"
    assert made.metadata.annotations["map_index"] == "1"


def test_what_airflow_gives_a_pod_stays(make_dag, target):
    made = make_pod(make_dag(target), "step.mini_batches", map_index=0)
    (container,) = made.spec.containers
    assert container.image == "airflow:configured"
    assert container.args == ["python", "-m", "airflow.sdk.execution_time.execute_workload"]
    assert {each.name for each in container.env} == {"TEMPLATE", "AIRFLOW_IS_K8S_EXECUTOR_POD"}
    assert {each.name: each.mount_path for each in container.volume_mounts} == {
        "dags": "/opt/airflow/dags",
        "runs": "/mnt/runs",
    }
    assert {each.name for each in made.spec.volumes} == {"dags", "runs"}
    assert made.spec.service_account_name == "airflow-worker"


def test_an_image_of_its_own_reaches_the_pod(make_dag):
    own = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="scoring:1")]))
    made = make_pod(make_dag(ComputeTarget(executor_config={"pod_override": own})), "step.mini_batches", map_index=0)
    assert made.spec.containers[0].image == "scoring:1"


@pytest.mark.parametrize("task", ["step.plan", "step.gatekeeper", "step.merge"])
def test_the_other_tasks_have_pods_as_airflow_makes_them(make_dag, target, task):
    made = make_pod(make_dag(target), task)
    assert made.spec.containers[0].resources is None
    assert made.spec.termination_grace_period_seconds is None


def test_the_executor_and_a_pod_template_are_kept(make_dag):
    config = {"pod_template_file": "/opt/airflow/pods/big.yaml"}
    dag = make_dag(ComputeTarget(executor="KubernetesExecutor", executor_config=config))
    shards = dag.get_task("step.mini_batches")
    assert (shards.executor, shards.executor_config) == ("KubernetesExecutor", config)
    assert dag.get_task("step.plan").executor is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("spek: {}", "pod_override of compute_target: spek is not a field of a pod"),
        (
            "spec: {containers: [{name: base, resources: {limitz: {cpu: 2}}}]}",
            "pod_override of compute_target: spec.containers[0].resources.limitz is not a field of a pod",
        ),
        ("spec: {containers: [{image: x}]}", "pod_override of compute_target is not a pod: "),
        ("spec: 3", "pod_override of compute_target is not a pod: "),
    ],
)
def test_what_is_no_pod_is_an_error_when_the_dag_is_parsed(make_dag, tmp_path, text, problem):
    with pytest.raises(ConfigError) as error:
        make_dag(declared(tmp_path, text))
    assert problem in str(error.value)


# The page for readers


PAGE = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("place", ["in the DAG file", "in a YAML file"])
def test_the_pod_of_the_page_reaches_the_pods_of_shards(make_dag, tmp_path, place):
    if place == "in a YAML file":
        (tmp_path / "targets.yaml").write_text(blocks("yaml")[1])
        target = load_compute_targets(tmp_path / "targets.yaml")["big"]
    else:
        made = {}
        exec(blocks("python")[0], made)
        target = made["compute_target"]
    (container,) = make_pod(make_dag(target), "step.mini_batches", map_index=0).spec.containers
    assert container.resources.limits == {"cpu": "4", "memory": "8Gi"}
    assert container.image == "airflow:configured"


def test_the_values_of_the_page_set_options_that_exist():
    variables = {each["name"] for each in yaml.safe_load(blocks("yaml")[0])["env"]}
    options = get_provider_info()["config"]["parallel_run"]["options"]
    assert variables <= {f"AIRFLOW__PARALLEL_RUN__{name.upper()}" for name in options}


def test_every_volume_of_the_values_is_mounted():
    values = yaml.safe_load(blocks("yaml")[0])
    mounted = {each["name"]: each["mountPath"] for each in values["volumeMounts"]}
    assert set(mounted) == {each["name"] for each in values["volumes"]}
    for each in values["env"]:
        assert each["value"].startswith(tuple(mounted.values()))


def test_the_values_are_for_the_version_of_the_image():
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text()
    version = yaml.safe_load(blocks("yaml")[0])["airflowVersion"]
    assert f"FROM apache/airflow:{version}-" in dockerfile
