"""Which reserved arguments are withheld, held against what argparse makes of those that are not."""

import argparse
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.config.arguments import RESERVED
from airflow_prs.plan.script_options import find_withheld

LONGER = st.builds("{}{}".format, st.sampled_from(RESERVED), st.sampled_from(["", "_", "-", "s", "_dir", "-dir", "_2"]))
OTHERS = st.sampled_from(["out", "o", "model", "mini-batch-size", "logging", "noutput"])


def withheld(*sources, **files):
    """What is withheld from scripts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for number, source in enumerate(sources):
            packed.writestr(f"package/{number}.py", source)
        for name, source in files.items():
            packed.writestr(name.replace("_", "."), source)
    return find_withheld(archive, RESERVED)


def declaring(*options):
    return "\n".join(f"parser.add_argument({option!r})" for option in options)


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([declaring("--output_dir")], {"output"}),
        ([declaring("--output-dir", "--output_file")], {"output"}),
        ([declaring("--output_action")], {"output"}),
        ([declaring("--output", "--output_dir")], set()),
        ([declaring("--output_dir"), "folder = sys.argv[sys.argv.index('--output') + 1]"], set()),
        ([declaring("--output_dir"), "# parser.add_argument('--output')"], {"output"}),
        (["# parser.add_argument('--output_dir')"], set()),
        (["'''Writes to --output_dir.'''"], set()),
        ([declaring("--out", "-output_dir", "--noutput_dir", "--mini-batch-size-2")], set()),
        ([declaring("--mini_batch_size_2", "--run_max_tries")], {"mini_batch_size"}),
        (["@click.option('--output-all/--no-output-all')"], {"output"}),
        (["parser.add_argument('-o', \"--output_dir\", dest='o')"], {"output"}),
        (["match:\n  print 'no Python'\n" + declaring("--output_dir")], {"output"}),
        (["\0" + declaring("--output_dir")], {"output"}),
        ([b"# coding: latin-1\nname = '\xe9'\n" + declaring("--output_dir").encode()], {"output"}),
        ([r"path = '\d'" + "\n" + declaring("--output_dir")], {"output"}),
        (["(" * 5000 + "\n" + declaring("--output_dir")], {"output"}),
    ],
)
def test_a_name_is_withheld_where_a_longer_option_begins_with_it_and_none_is_it(sources, names):
    assert set(withheld(*sources)) == names


def test_what_is_no_script_has_no_options():
    assert withheld(README_md=declaring("--output_dir")) == {}


def test_the_log_tells_the_longer_option_and_its_script(caplog):
    caplog.set_level("INFO")
    assert withheld("x = 1", declaring("--model", "--output_dir")) == {"output": "--output_dir"}
    [line] = caplog.messages
    assert "does not get --output: argparse would take it for the option --output_dir of package/1.py" in line


@settings(max_examples=100, deadline=None)
@given(st.lists(LONGER | OTHERS, max_size=6, unique=True))
def test_no_option_of_the_script_gets_what_another_name_stands_for(options):
    options = [f"--{option}" for option in options]
    names = [name for name in RESERVED if name not in withheld(declaring(*options))]
    parser = argparse.ArgumentParser()
    for option in options:
        parser.add_argument(option, dest=option)
    parsed, _ = parser.parse_known_args([word for name in names for word in (f"--{name}", f"value of --{name}")])
    for option in options:
        expected = f"value of {option}" if option.removeprefix("--") in RESERVED else None
        assert getattr(parsed, option) == expected
