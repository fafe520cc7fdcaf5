"""What plan has resolved, as the other tasks read it."""

import json

import pytest

from airflow_prs.errors import RunFolderError
from airflow_prs.records import SCHEMA
from airflow_prs.settings import RunSettings
from tests.makers import make_config, make_identity


@pytest.fixture
def settings():
    return RunSettings(config=make_config(), identity=make_identity(), output="/data/out")


def test_settings_are_read_as_they_were_written(settings):
    assert RunSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("layout", "error"),
    [(SCHEMA - 1, "an older version.*Clear the plan task"), (SCHEMA + 1, "a newer version.*same version on all")],
)
def test_settings_of_another_version_are_refused_before_anything_else_is_read(settings, layout, error):
    unreadable = {"schema": layout, "what": json.loads(settings.to_json())["config"]}
    with pytest.raises(RunFolderError, match=error):
        RunSettings.from_json(json.dumps(unreadable).encode())
