import pytest

from airflow_prs.config.parameters import (
    PipelineParameter,
    Words,
    combine_promotions,
    fill_in,
    find_parameters,
    promote,
    title_of,
)
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


WORDS = Words(title="Size", effect="What changes.", empty="none")


def test_bounds_narrow_the_schema_and_take_text_out_of_it():
    parameter = PipelineParameter("size", 10, maximum=100)
    schema = {"type": ["integer", "string"], "minimum": 1, "pattern": "x"}
    promotion = promote(parameter, "mini_batch_size", schema, WORDS)
    assert promotion.rules == {"type": "integer", "minimum": 1, "maximum": 100}
    assert promotion.look == {"title": "Size"}
    assert promotion.description == "What changes. Allowed: 1 to 100."


@pytest.mark.parametrize(
    ("default", "first"), [("a", "string"), (3, "integer"), (0.5, "number"), (True, "boolean"), (None, "string")]
)
def test_of_several_types_that_of_the_default_chooses_a_small_field(default, first):
    schema = {"type": ["string", "number", "integer", "boolean", "null"]}
    promotion = promote(PipelineParameter("limit", default), "arguments", schema, WORDS)
    assert promotion.rules["type"][0] == first
    assert sorted(promotion.rules["type"]) == sorted(schema["type"])
    assert promotion.look["examples"] == ([] if default is None else [default])
    assert promotion.description == "What changes. Empty: none."


@pytest.mark.parametrize(
    ("minimum", "maximum", "words"),
    [(None, 3, "Allowed: at most 3."), (0.5, None, "Allowed: at least 0.5."), (None, None, "")],
)
def test_the_description_names_the_bounds(minimum, maximum, words):
    parameter = PipelineParameter("n", 1, "Any", minimum, maximum)
    assert promote(parameter, "n", {"type": "number"}, WORDS).description == f"Any. {words}".strip()


@pytest.mark.parametrize(("name", "title"), [("row_limit", "Row limit"), ("n", "N"), ("URL", "URL"), ("_", "_")])
def test_a_name_makes_a_title(name, title):
    assert title_of(name) == title


def test_places_with_the_same_schema_share_a_parameter():
    parameter = PipelineParameter("limit", 3, "Failures")
    schema = {"type": "integer"}
    combined = combine_promotions(promote(parameter, place, schema, WORDS) for place in ("one", "two"))
    assert list(combined) == ["limit"]
    assert combined["limit"].fields == ("one", "two")


def test_one_name_for_different_schemas_is_an_error_that_names_both_places():
    parameter = PipelineParameter("n", 3)
    with pytest.raises(ConfigError, match="two is the PipelineParameter 'n', which stands for something else in one"):
        combine_promotions(
            [
                promote(parameter, "one", {"type": "integer"}, WORDS),
                promote(parameter, "two", {"type": "number"}, WORDS),
            ]
        )


def test_one_name_with_different_defaults_is_an_error():
    with pytest.raises(ConfigError, match="give one of them another name"):
        combine_promotions(
            promote(PipelineParameter("n", default), str(default), {"type": "integer"}, WORDS) for default in (1, 2)
        )
