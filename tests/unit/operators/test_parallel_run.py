"""How a step stands in its DAG."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import re
import textwrap

import pytest
from airflow.sdk import DAG, Label, Param, TaskGroup, chain, task, task_group

from airflow_prs import FileDataset, ParallelRunOperator, PipelineParameter, TabularDataset
from airflow_prs.errors import ConfigError
from airflow_prs.operators.merge import MergeOperator
from airflow_prs.operators.mini_batches import MiniBatchesOperator
from airflow_prs.operators.plan import PlanOperator
from airflow_prs.sensors.gatekeeper import GatekeeperSensor


@pytest.fixture
def dag():
    with DAG("steps", schedule=None) as dag:
        yield dag


@task
def give():
    return "/data/in"


def serialized(dag):
    from airflow.serialization import serialized_objects

    # Airflow 3.1 calls it otherwise.
    serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    return json.dumps(serialization.to_dict(dag), default=str)


def test_a_step_is_four_tasks_each_of_which_follows_all_before(dag, make_step):
    make_step()
    edges = {task_id: sorted(task.downstream_task_ids) for task_id, task in dag.task_dict.items()}
    assert edges == {
        "step.plan": ["step.gatekeeper", "step.merge", "step.mini_batches"],
        "step.mini_batches": ["step.gatekeeper", "step.merge"],
        "step.gatekeeper": ["step.merge"],
        "step.merge": [],
    }


@pytest.mark.parametrize("operator", [PlanOperator, MiniBatchesOperator, GatekeeperSensor, MergeOperator])
def test_template_fields_are_assigned_from_the_arguments_of_their_names_as_airflow_asks_of_providers(operator):
    source = textwrap.dedent(inspect.getsource(operator.__init__))
    assert [field for field in operator.template_fields if f"    self.{field} = {field}\n" not in source] == []
    used = [node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    assert [field for field in operator.template_fields if used.count(field) != 1] == []


def test_a_step_takes_part_in_shifts_and_chains_like_any_operator(dag, make_step):
    first, last = give.override(task_id="first")(), give.override(task_id="last")()
    step = make_step()
    chain(first, Label("scored"), step, last)
    assert dag.task_dict["step.plan"].upstream_task_ids == {"first"}
    assert dag.task_dict["last"].upstream_task_ids == {"step.merge"}


def test_output_is_what_merge_returns(make_step, dag):
    assert make_step().output.operator is dag.task_dict["step.merge"]


def test_what_comes_before_the_output_of_a_step_comes_before_the_entire_step(dag, make_step):
    first, second, third = (give.override(task_id=name)() for name in ("first", "second", "third"))
    output = make_step().output
    first >> output
    chain([second], Label("scored"), output)
    output << third
    assert dag.task_dict["step.plan"].upstream_task_ids == {"first", "second", "third"}
    assert dag.task_dict["step.merge"].upstream_task_ids == {"step.plan", "step.mini_batches", "step.gatekeeper"}
    output >> give.override(task_id="last")()
    assert dag.task_dict["last"].upstream_task_ids == {"step.merge"}


def test_the_output_of_a_step_stands_in_mapped_tasks_too(dag, make_step):
    @task
    def use(location, number): ...

    use.partial(location=make_step().output).expand(number=[1, 2])
    assert dag.task_dict["use"].upstream_task_ids == {"step.merge"}
    assert '"task_id": "step.merge", "key": "return_value"' in serialized(dag)


@pytest.mark.parametrize("inputs", ["/data/in", ["/data/a", "/data/b"], PipelineParameter("folder", "/data/in")])
def test_paths_stand_for_a_file_dataset(dag, make_step, inputs):
    make_step("paths", inputs=inputs)
    make_step("dataset", inputs=[FileDataset(inputs)])
    assert dag.task_dict["paths.plan"].inputs == dag.task_dict["dataset.plan"].inputs


def test_what_another_task_returns_stands_for_a_file_dataset(dag, make_step):
    make_step(inputs=give())
    assert dag.task_dict["step.plan"].upstream_task_ids == {"give"}


def test_a_step_finds_its_dag_and_group_by_argument_too(make_step):
    dag = DAG("outside", schedule=None)
    group = TaskGroup("group", dag=dag)
    make_step(dag=dag, task_group=group)
    assert "group.step.merge" in dag.task_dict


def test_the_original_name_is_the_task_id(dag, make_config):
    ParallelRunOperator(
        name="step", parallel_run_config=make_config(), inputs=[FileDataset("/data/in")], output="/data/out"
    )
    assert "step.plan" in dag.task_dict


def test_the_description_is_the_tooltip(dag, make_step):
    assert make_step(config={"description": "scores digits"}).tooltip == "scores digits"


def test_a_dataset_from_another_task_makes_an_edge_to_plan(dag, make_step):
    make_step(inputs=[FileDataset(give())])
    assert dag.task_dict["step.plan"].upstream_task_ids == {"give"}


def test_an_environment_variable_from_another_task_makes_an_edge_to_plan(dag, make_step):
    make_step(config={"environment_variables": {"WHO": give()}})
    assert dag.task_dict["step.plan"].upstream_task_ids == {"give"}


def test_the_serialized_dag_holds_no_value_of_an_environment_variable(dag, make_step):
    make_step(config={"environment_variables": {"TOKEN": "s3cr3t"}})
    assert "s3cr3t" not in serialized(dag)


def test_two_parses_serialize_to_the_same_text(make_step):
    def parse():
        with DAG("same", schedule=None) as dag:
            make_step(inputs=[FileDataset(give())], arguments=["--n", PipelineParameter("n", default_value=1)])
        return serialized(dag)

    assert parse() == parse()


def test_a_dag_with_a_step_can_be_copied(dag, make_step):
    make_step(config={"environment_variables": {"TOKEN": "x"}})
    assert set(copy.deepcopy(dag).task_dict) == set(dag.task_dict)


def test_the_repr_names_the_step_alone(dag, make_step):
    assert repr(make_step()) == "<ParallelRunOperator: step>"


def test_inside_a_mapped_task_group_the_error_says_so(dag, make_step):
    @task_group
    def group(path):
        make_step(inputs=[FileDataset(path)])

    with pytest.raises(ConfigError, match="is inside the mapped task group 'group'"):
        group.expand(path=["/a", "/b"])


def test_relative_paths_begin_at_the_dag_file(dag, make_step, scripts):
    dag.fileloc = str(scripts.parent / "dag.py")
    step = make_step(config={"source_directory": "scripts"})
    assert step.plan.dag_folder == str(scripts.parent)


WRONG = {
    "a missing script": ({"config": {"entry_script": "none.py"}}, "entry_script is 'none.py'"),
    "a missing folder": ({"config": {"source_directory": "/nowhere"}}, "source_directory is '/nowhere'"),
    "rows of files": (
        {"config": {"mini_batch_size": "10 rows"}},
        "mini_batch_size is '10 rows'; allowed for the files of 'input_0': a number of files",
    ),
    "no inputs": ({"inputs": []}, "inputs is empty"),
    "reuse that is no bool": ({"allow_reuse": "no"}, "allow_reuse is 'no'; allowed: True or False"),
    "a path as a side input": ({"side_inputs": ["/m"]}, r"side_inputs\[0\] is '/m'; allowed: a FileDataset(?! or)"),
    "inputs of two kinds": (
        {"inputs": [FileDataset("/a"), TabularDataset.from_parquet_files("/b")]},
        "inputs mixes FileDataset and TabularDataset",
    ),
    "inputs that are none": (
        {"inputs": [3]},
        r"inputs\[0\] is 3; allowed: a FileDataset or TabularDataset(?!.*is empty)",
    ),
    "one name for two inputs": (
        {"inputs": [FileDataset("/a").as_named_input("a"), FileDataset("/b").as_named_input("a")]},
        "'a' is the name of two inputs",
    ),
    "a side input whose addresses are handed over": (
        {"side_inputs": [FileDataset("/b", mode="direct").as_named_input("b")]},
        "side_inputs: 'b' has mode='direct'; allowed: mode='download', or no side input",
    ),
    "only new files as a side input": (
        {"side_inputs": [FileDataset("/b", only_new=True).as_named_input("b")]},
        "side_inputs: 'b' has only_new=True; allowed for inputs only",
    ),
    "a table as a side input": (
        {"side_inputs": [TabularDataset.from_parquet_files("/b").as_named_input("b")]},
        "side_inputs: 'b' is a TabularDataset",
    ),
    "a side input that is not declared": (
        {"arguments": ["--side", FileDataset("/side")]},
        "arguments holds .*allowed: a dataset that is in side_inputs",
    ),
    "no output": ({"output": None}, "output is missing"),
    "a relative output": ({"output": "out"}, "output is 'out'; allowed: an absolute path"),
    "an output on another storage": (
        {"output": "gs://bucket/out"},
        "output is 'gs://bucket/out'; gs:// is not supported",
    ),
    "an output whose key has an empty part": (
        {"output": "s3://bucket//out"},
        "output is 's3://bucket//out'; the key has",
    ),
    "an output of another kind": ({"output": 3}, "output is 3"),
    "a reserved argument": ({"arguments": ["--run_max_try", "3"]}, "run_max_try"),
    "an unknown on_empty": ({"on_empty": "ignore"}, "on_empty is 'ignore'; allowed: 'fail' or 'skip'"),
    "an unknown compute target": ({"config": {"compute_target": "gpu"}}, "compute_target is 'gpu'"),
    "no configuration": ({"parallel_run_config": {}}, "parallel_run_config is {}; allowed: a ParallelRunConfig"),
    "an id with a space": ({"task_id": "my step"}, "task_id is 'my step'"),
    "two ids": ({"name": "step"}, "give either task_id or name"),
}


@pytest.mark.parametrize(("changes", "error"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_an_error_that_names_it(dag, make_step, changes, error):
    with pytest.raises(ConfigError, match=error):
        make_step(**changes)


def test_all_problems_are_told_at_once(dag, make_step):
    with pytest.raises(ConfigError) as caught:
        make_step(config={"entry_script": "none.py"}, output=None, on_empty="ignore")
    assert len(caught.value.problems) == 3


def test_the_problems_of_the_step_and_its_place_are_told_together_too(dag, make_step):
    dag.params["n"] = "many"
    with pytest.raises(ConfigError) as caught:
        make_step("my step", config={"compute_target": "gpu"}, inputs=[], on_emty="skip", retrys=2)
    first_words = [problem.split(" ", 1)[0] for problem in caught.value.problems]
    assert first_words == ["task_id", "on_emty", "retrys", "compute_target", "inputs"]


UNKNOWN = {
    "of ours": ({"on_emty": "skip"}, "on_emty is no parameter of ParallelRunOperator; did you mean 'on_empty'?"),
    "of Airflow's": ({"retrys": 3}, "retrys is no parameter of ParallelRunOperator; did you mean 'retries'?"),
    "of the configuration": ({"node_count": 2}, "node_count is no parameter of ParallelRunOperator, but of Parallel"),
    "of nothing": ({"xyz": 2}, "xyz is no parameter of ParallelRunOperator, nor of Airflow's BaseOperator"),
}


@pytest.mark.parametrize(("given", "problem"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_argument_is_an_error_that_names_the_one_that_was_meant(dag, make_step, given, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        make_step(**given)


def test_a_misspelled_required_argument_names_the_one_that_was_meant(dag, make_config):
    with pytest.raises(ConfigError) as caught:
        ParallelRunOperator(task_id="step", paralel_run_config=make_config(), inputs="/data/in", output="/data/out")
    assert caught.value.problems == (
        "paralel_run_config is no parameter of ParallelRunOperator; did you mean 'parallel_run_config'?",
        "parallel_run_config is None; allowed: a ParallelRunConfig",
    )


def test_a_script_without_run_is_an_error(dag, make_step, scripts):
    (scripts / "score.py").write_text("def runs(mini_batch): ...")
    with pytest.raises(ConfigError, match=r"entry_script: score\.py defines no run\(\)"):
        make_step()


def test_ids_too_long_for_the_tasks_inside_are_an_error_that_names_the_limit(dag, make_step):
    with TaskGroup("g" * 200), pytest.raises(ConfigError, match=r"task_id has 251 characters .* allowed: 237"):
        make_step("s" * 50)


def test_a_run_may_choose_what_a_parameter_stands_for(dag, make_step):
    make_step(config={"node_count": PipelineParameter("nodes", default_value=2, maximum=8, description="machines")})
    param = dag.params.get_param("nodes")
    assert (param.value, param.description) == (2, "machines. Allowed: 1 to 8.")
    assert param.schema == {
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
        "title": "Nodes at the same time",
        "section": "Step step",
    }


def test_two_steps_share_a_parameter_with_the_same_schema(dag, make_step):
    for task_id in ("one", "two"):
        make_step(task_id, config={"node_count": PipelineParameter("nodes", default_value=2)})
    assert list(dag.params) == ["nodes"]
    assert dag.params.get_param("nodes").schema["section"] == "Several steps"


def test_a_param_of_the_dag_with_the_same_rules_is_shared_and_stays_as_it_is(make_step):
    given = Param(2, type="integer", minimum=1, title="Machines", section="Cost", description="How many")
    with DAG("own", schedule=None, params={"nodes": given}) as dag:
        make_step(config={"node_count": PipelineParameter("nodes", default_value=2)})
    param = dag.params.get_param("nodes")
    assert param.description == "How many"
    assert param.schema == {"type": "integer", "minimum": 1, "title": "Machines", "section": "Cost"}


def test_what_the_script_gets_from_a_run_is_titled_by_its_name(dag, make_step):
    make_step(
        output=PipelineParameter("folder", "/data/out"), arguments=["--n", PipelineParameter("row_limit", 3, "Rows")]
    )
    limit, folder = (dag.params.get_param(name) for name in ("row_limit", "folder"))
    assert (limit.schema["title"], limit.description) == ("Row limit", "Rows.")
    assert limit.schema["type"][0] == "integer"
    assert folder.schema["title"] == "Folder of the result"
    assert [dag.params.get_param(name).resolve() for name in dag.params] == ["/data/out", 3]


def test_a_parameter_that_the_dag_uses_otherwise_is_an_error(make_step):
    with (
        DAG("other", schedule=None, params={"nodes": "many"}),
        pytest.raises(ConfigError, match="the DAG has a param of that name"),
    ):
        make_step(config={"node_count": PipelineParameter("nodes", default_value=2)})


def test_two_steps_that_mean_different_things_by_a_name_are_an_error(dag, make_step):
    make_step("one", config={"node_count": PipelineParameter("n", default_value=2)})
    with pytest.raises(ConfigError, match="PipelineParameter 'n'"):
        make_step("two", config={"run_max_try": PipelineParameter("n", default_value=2, maximum=5)})


def test_inputs_may_be_left_out_where_mini_batches_come_without_any(dag, make_step):
    make_step(inputs=None, arguments=["--rank_mini_batch_count", "3"])
    assert "step.plan" in dag.task_dict


@pytest.mark.parametrize("arguments", [None, ["--rank_mini_batch_count", "0"]])
def test_inputs_that_are_left_out_otherwise_are_an_error(dag, make_step, arguments):
    with pytest.raises(ConfigError, match="inputs is empty"):
        make_step(inputs=None, arguments=arguments)


def rendered(plan, dag, **params):
    plan.render_template_fields({"params": {**dict.fromkeys(dag.params), **params}, "ti": None, "run": "7"})
    return plan


def test_the_rendered_fields_have_the_values_of_the_run(dag, make_step):
    size = PipelineParameter("size", default_value=3)
    step = make_step(
        config={"mini_batch_size": size},
        output="/data/{{ run }}",
        inputs=[FileDataset(PipelineParameter("folder", default_value="/data/in"))],
        arguments=["--text", PipelineParameter("text", default_value="a")],
    )
    plan = rendered(step.plan, dag, size=5, folder="/data/other", text="b")
    assert "PipelineParameter" not in json.dumps([getattr(plan, field) for field in plan.template_fields], default=repr)
    assert (plan.result_folder, plan.arguments, plan.inputs[0]["path"]) == ("/data/7", ["--text", "b"], "/data/other")
    assert plan.run_parameters == {"size": 5, "folder": "/data/other", "text": "b"}


def test_a_template_that_cannot_be_rendered_is_an_error_with_the_name_that_the_author_wrote(dag, make_step):
    step = make_step(output="/data/{{ 1 / 0 }}")
    with pytest.raises(Exception, match=r"^output is '/data/{{ 1 / 0 }}', which cannot be rendered: ZeroDivisionError"):
        step.plan.render_template_fields({"params": {}, "dag_run": None})


def test_each_task_says_what_it_does_and_what_clearing_it_does(dag, make_step):
    make_step(doc_md="Mine.")
    for name in ("plan", "mini_batches", "gatekeeper", "merge"):
        doc = dag.task_dict[f"step.{name}"].partial_kwargs["doc_md"] if name == "mini_batches" else None
        doc = doc or dag.task_dict[f"step.{name}"].doc_md
        assert doc.startswith(f"Mine.\n\n**{name}** ")
        assert "lear" in doc


def test_an_error_names_the_step(dag, make_step):
    with pytest.raises(ConfigError, match=r"^step 'step': on_empty is 'ship'; allowed: "):
        make_step(on_empty="ship")


def test_the_summary_is_an_xcom_of_merge(dag, make_step):
    summary = make_step().summary
    assert (summary.operator, summary.key) == (dag.task_dict["step.merge"], "summary")
