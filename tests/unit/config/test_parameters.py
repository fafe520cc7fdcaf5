import pytest

from airflow_prs.config.parameters import PipelineParameter, combine_promotions, fill_in, find_parameters, promote
from airflow_prs.errors import ConfigError


def test_a_parameter_keeps_what_it_is_given_and_has_the_same_repr_everywhere():
    parameter = PipelineParameter("node_count", default_value=2, description="Nodes", minimum=1, maximum=8)
    assert repr(parameter) == (
        "PipelineParameter(name='node_count', default_value=2, description='Nodes', minimum=1, maximum=8)"
    )
    assert parameter == PipelineParameter("node_count", 2, "Nodes", 1, 8)


def test_a_parameter_cannot_be_changed():
    with pytest.raises(AttributeError):
        PipelineParameter("n", 2).name = "m"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name": "node count"}, "name of a PipelineParameter is 'node count'; allowed: letters, digits, underscores"),
        ({"name": 3}, "name of a PipelineParameter is 3"),
        ({"description": 3}, "PipelineParameter 'n': the description is 3; allowed: text"),
        ({"minimum": "1"}, "PipelineParameter 'n': minimum '1', maximum None; allowed: numbers"),
        ({"minimum": 5, "maximum": 1}, "PipelineParameter 'n': the minimum 5 is more than the maximum 1"),
        ({"minimum": 3}, "PipelineParameter 'n': the default 2 is less than the minimum 3"),
        ({"maximum": 1}, "PipelineParameter 'n': the default 2 is more than the maximum 1"),
        ({"default_value": "x", "maximum": 1}, "the default 'x' is not a number, but a minimum or maximum is given"),
        ({"default_value": {1}}, "PipelineParameter 'n': the default is {1}; allowed: plain JSON values"),
    ],
)
def test_a_wrong_parameter_says_what_is_wrong(arguments, problem):
    with pytest.raises(ConfigError) as error:
        PipelineParameter(**{"name": "n", "default_value": 2, **arguments})
    assert problem in str(error.value)


def test_the_values_of_a_run_take_the_place_of_parameters_at_any_depth():
    value = ["--n", PipelineParameter("n", 2), {"key": (PipelineParameter("m", "default"),)}]
    assert fill_in(value, {"n": 7, "other": 1}) == ["--n", 7, {"key": ("default",)}]


def test_parameters_are_found_at_any_depth():
    first, second = PipelineParameter("n", 2), PipelineParameter("m", 3)
    assert list(find_parameters(["x", first, {"key": (second,)}])) == [first, second]


def test_bounds_narrow_the_schema_and_take_text_out_of_it():
    parameter = PipelineParameter("size", 10, maximum=100)
    promotion = promote(
        parameter, "mini_batch_size", {"type": ["integer", "string"], "minimum": 1, "pattern": "x"}, allowed="a size"
    )
    assert promotion.schema == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "description": "mini_batch_size: a size",
    }


def test_places_with_the_same_schema_share_a_parameter():
    parameter = PipelineParameter("limit", 3, "Failures")
    schema = {"type": "integer"}
    combined = combine_promotions(promote(parameter, place, schema, allowed="an int") for place in ("one", "two"))
    assert list(combined) == ["limit"]
    assert combined["limit"].fields == ("one", "two")


def test_one_name_for_different_schemas_is_an_error_that_names_both_places():
    parameter = PipelineParameter("n", 3)
    with pytest.raises(ConfigError, match="two is the PipelineParameter 'n', which stands for something else in one"):
        combine_promotions(
            [
                promote(parameter, "one", {"type": "integer"}, allowed=""),
                promote(parameter, "two", {"type": "number"}, allowed=""),
            ]
        )


def test_one_name_with_different_defaults_is_an_error():
    with pytest.raises(ConfigError, match="give one of them another name"):
        combine_promotions(
            promote(PipelineParameter("n", default), str(default), {"type": "integer"}, allowed="")
            for default in (1, 2)
        )
