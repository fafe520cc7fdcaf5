"""The structure of the package: what the import contracts of pyproject.toml do not hold."""

import pytest

from tests.house import levels, look_at_house, main


@pytest.fixture(scope="module")
def house():
    return look_at_house()


def test_no_module_and_no_room_imports_itself_in_a_circle(house):
    assert levels(house.modules)
    assert levels(house.rooms)


def test_few_modules_are_in_no_room(house):
    assert len(house.loose) <= 10


def test_every_room_says_what_it_is_for(house):
    for folder in house.folders:
        assert __import__(folder, fromlist=["_"]).__doc__


def test_the_numbers_are_printed(house, capsys):
    main()
    assert f"modules                {len(house.modules)}" in capsys.readouterr().out
