"""What partition_format takes from a path."""

from datetime import datetime

import pytest

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.inputs.path_keys import find_key_folders, parse_partition_format


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        (
            "/{user}/{season}/{genre}.wav",
            "/d/x/ann/summer/pop.wav",
            {"user": "ann", "season": "summer", "genre": "pop"},
        ),
        ("{user}/1.wav", "/d/ann/1.wav", {"user": "ann"}),
        ("/{a}_{b}.csv", "/d/x_y_z.csv", {"a": "x", "b": "y_z"}),
        (
            "/{day:yyyy/MM/dd/HH/mm/ss}/{n}",
            "/d/2024/02/29/23/59/58/f",
            {"day": datetime.fromisoformat("2024-02-29T23:59:58"), "n": "f"},
        ),
        ("/{m:yyyy-MM}.csv", "/d/2024-02.csv", {"m": datetime.fromisoformat("2024-02-01")}),
        ("/{d:dd.MM.yyyy}.csv", "/d/03.02.2024.csv", {"d": datetime.fromisoformat("2024-02-03")}),
        ("/{a}.csv", "/d/new\nline ü.csv", {"a": "new\nline ü"}),
        ("/x.{a}/f+", "/d/x.1/f+", {"a": "1"}),
    ],
)
def test_values_come_from_the_end_of_the_path(text, path, expected):
    assert parse_partition_format(text).read(path) == expected


def test_keys_stand_in_the_order_of_the_format():
    assert parse_partition_format("/{b}/{a:yyyy}.wav").keys == ("b", "a")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/{user}/1.wav", "/d/ann/1.wav.bak"),
        ("/b{user}.wav", "/d/ab1.wav"),
        ("/{day:yyyy/MM/dd}", "/d/2024/13/01"),
        ("/{day:yyyy/MM/dd}", "/d/2023/02/29"),
        ("/{day:yyyy}", "/d/24"),
        ("/x.{a}", "/d/xy1"),
    ],
)
def test_a_path_that_does_not_match_is_named(text, path):
    with pytest.raises(InputError, match="does not match partition_format") as caught:
        parse_partition_format(text).read(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["/a.wav", "/{a}/{a}", "/{}", "/{a", "/a}/{b}", "/{d:yy}", "/{d:yyyy/yyyy}", "/{d:MM}", "/{d:}"]
)
def test_what_is_no_format_is_refused(text):
    with pytest.raises(ConfigError, match="partition_format="):
        parse_partition_format(text)


def test_folders_named_key_and_value_are_found_wherever_they_stand():
    keys = find_key_folders(
        ["/d/x/year=2024/y/city=a%2Fb/1.csv", "/d/x/year=__HIVE_DEFAULT_PARTITION__/z/y/city=/2.csv"]
    )
    assert keys.keys == ("year", "city")
    assert keys.read("/d/x/year=2024/y/city=a%2Fb/1.csv") == {"year": "2024", "city": "a/b"}
    assert keys.read("/d/x/year=__HIVE_DEFAULT_PARTITION__/city=/1") == {"year": None, "city": ""}


def test_a_file_named_like_a_key_is_no_folder():
    assert find_key_folders(["/d/a=1.csv", "/d/=/2.csv"]) is None


@pytest.mark.parametrize("other", ["/d/a=1/f", "/d/f", "/d/b=1/a=1/f", "/d/a=1/b=1/c=1/f"])
def test_folders_of_other_keys_are_refused(other):
    with pytest.raises(InputError, match="same keys in the same order") as caught:
        find_key_folders(["/d/a=1/b=1/f", other])
    assert repr(other) in str(caught.value)


def test_two_folders_of_one_key_are_refused():
    with pytest.raises(InputError, match="two folders with the same key"):
        find_key_folders(["/d/a=1/a=2/f"])
