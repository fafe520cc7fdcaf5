"""Environments that a node makes: with packages of our own making, and (slow) with those that everybody uses."""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.environments.making import ensure_environment, missing_module_hint
from airflow_prs.errors import EntryScriptError, EnvironmentBrokenError
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import RunIdentity
from airflow_prs.result.merge import merge_run
from tests.lacking import lacking
from tests.shards import Tries, make_config, read_rows
from tests.shards import make_plan as make_shard

DEADLINE_S = 30
BESIDE = Path(sys.executable).parent
PYTHONS = [f"python3.{minor}" for minor in range(9, 14)]


def quiet(line):
    """Take what is said, and forget it."""


def variables(**more):
    """What an Airflow task would give: uv may be installed beside Airflow."""
    return {**os.environ, "PATH": f"{BESIDE}{os.pathsep}{os.environ['PATH']}", **more}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "environments"


# Packages of our own


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder of small packages that have the names of large ones."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "pandas", "1.5.3", {"pandas/__init__.py": "__version__ = '1.5.3'"})
    make_wheel(folder, "pandas", "1.4.0", {"pandas/__init__.py": "__version__ = '1.4.0'"})
    make_wheel(folder, "pandas", "2.0.0", {"pandas/__init__.py": "import numpy.core"})
    make_wheel(folder, "pyarrow", "19.0.0", {"pyarrow/__init__.py": "", "pyarrow/parquet.py": ""})
    make_wheel(folder, "numpy", "1.26.4", {"numpy/__init__.py": ""})
    return folder


def make_wheel(folder, name, version, files):
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    names = [*files, *metadata, f"{info}/RECORD"]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, **metadata, f"{info}/RECORD": "".join(f"{each},,\n" for each in names)}.items():
            archive.writestr(path, text)


@pytest.fixture
def of(wheels):
    """An environment of the small packages."""
    return lambda *requirements: Environment.from_pip(["--no-index", f"--find-links {wheels}", *requirements])


@pytest.fixture(params=["uv", pytest.param("pip", marks=pytest.mark.slow)])
def method(request):
    if request.param == "uv" and not shutil.which("uv", path=variables()["PATH"]):
        lacking("uv is missing; `make venv` installs it")
    return request.param


def ask(interpreter, code):
    return subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_an_environment_has_its_own_packages_and_no_airflow(of, root, method):
    interpreter = ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables(), method=method)
    code = "import importlib.util as u, pandas, pyarrow.parquet; print(pandas.__version__, u.find_spec('airflow'))"
    assert ask(interpreter, code) == "1.5.3 None"


def test_a_shard_runs_in_an_environment_that_its_node_makes(of, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", variables()["PATH"])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    script = "import pandas, sys\ndef run(mini_batch): return [pandas.__version__, sys.prefix]\n"
    folder = make_shard(tmp_path, script, mini_batches=1, environment=of("pandas==1.5.3"))

    Tries(folder).run()

    version, prefix = read_rows(folder)
    assert version == "1.5.3"
    assert Path(prefix).is_relative_to(tmp_path / "home")


def test_what_an_environment_lacks_is_named_with_it(of, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", variables()["PATH"])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    script = "import sklearn\ndef run(mini_batch): return mini_batch\n"
    folder = make_shard(tmp_path, script, mini_batches=1, environment=of("pandas==1.5.3"))

    with pytest.raises(
        EntryScriptError, match=r"(?s)used: .*sklearn is missing in .*from_pip.*add it to requirements.*\n\nTraceback"
    ):
        Tries(folder).run()


def test_what_another_python_is_told_by_variables_does_not_lead_astray(of, root, method, tmp_path):
    variety = variables(PIP_USER="true", PIP_TARGET=str(tmp_path / "x"), PYTHONPATH=str(tmp_path), UV_SYSTEM_PYTHON="1")
    (tmp_path / "pandas.py").write_text("raise ImportError('not this one')")
    interpreter = ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variety, method=method)
    assert ask(interpreter, "import pandas; print(pandas.__version__)") == "1.5.3"


def test_a_variable_of_the_node_may_stand_in_a_requirement(wheels, root, method):
    environment = Environment.from_pip(["--no-index", "--find-links ${WHEELS}", "pandas==1.5.3"])
    environ = variables(WHEELS=str(wheels))
    assert Path(ensure_environment(environment, root, quiet, environ=environ, method=method)).exists()


def test_what_cannot_be_installed_is_an_error_with_the_installers_own_words(of, root, method):
    with pytest.raises(EnvironmentBrokenError, match=r"(?s)from_pip.* cannot be made on .*Correct its.*no-such-thing"):
        ensure_environment(of("no-such-thing"), root, quiet, environ=variables(), method=method)
    assert [path.suffix for path in root.iterdir()] == [".lock"]


def test_an_environment_is_made_once_and_then_taken_without_a_word(of, root):
    said = []
    first = ensure_environment(of("pandas==1.5.3"), root, said.append, environ=variables())
    assert re.search(r"(?s)Making the environment .*pandas==1\.5\.3.*pandas 1\.5\.3", "\n".join(said))
    said.clear()
    assert ensure_environment(of("pandas==1.5.3"), root, said.append, environ=variables()) == first
    assert not said


def test_other_requirements_make_another_environment(of, root):
    first = ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables())
    second = ensure_environment(of("pandas==1.5.3", "numpy==1.26.4"), root, quiet, environ=variables())
    assert first != second


def test_of_several_that_ask_at_once_one_makes_it_and_the_others_wait(of, root):
    said = []
    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(ensure_environment, of("pandas==1.5.3"), root, said.append, environ=variables())
            for _ in range(4)
        ]
        assert len({future.result(DEADLINE_S) for future in futures}) == 1
    assert sum(line.startswith("Making") for line in said) == 1


def test_an_environment_that_was_left_half_made_is_begun_anew(of, root):
    interpreter = Path(ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables()))
    folder = interpreter.parents[1]
    (folder / "environment.json").unlink()
    (folder / "left-over").touch()
    ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables())
    assert (folder / "environment.json").exists()
    assert not (folder / "left-over").exists()


def test_an_environment_whose_python_is_gone_is_made_again(of, root, tmp_path):
    interpreter = Path(ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables()))
    interpreter.unlink()
    interpreter.symlink_to(tmp_path / "gone")
    ensure_environment(of("pandas==1.5.3"), root, quiet, environ=variables())
    assert ask(interpreter, "import pandas; print(pandas.__version__)") == "1.5.3"


def test_a_package_that_cannot_be_imported_is_named_and_nothing_is_kept(of, root):
    with pytest.raises(EnvironmentBrokenError, match=r"(?s)from_pip.* cannot be made.*No module named 'numpy.core'"):
        ensure_environment(of("pandas==2.0.0"), root, quiet, environ=variables())
    assert [path.suffix for path in root.iterdir()] == [".lock"]


def test_a_pandas_that_is_too_old_is_an_error(of, root):
    with pytest.raises(EnvironmentBrokenError, match=r"it would have pandas 1\.4\.0; worker processes need 1\.5"):
        ensure_environment(of("pandas==1.4.0"), root, quiet, environ=variables())


def test_a_python_that_is_not_there_is_named(root):
    with pytest.raises(EnvironmentBrokenError, match=r"python3\.77 cannot be started: No such file"):
        ensure_environment(Environment.from_pip([], python="3.77"), root, quiet, environ=variables())


def test_uv_where_there_is_none_is_an_error(of, root, tmp_path):
    with pytest.raises(EnvironmentBrokenError, match=r"venv_install_method is uv, which is not on the PATH"):
        ensure_environment(of(), root, quiet, environ={"PATH": str(tmp_path)}, method="uv")


def test_a_folder_that_cannot_be_written_says_which_option_names_it(of, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentBrokenError, match=r"set \[parallel_run\] environments_root"):
        ensure_environment(of(), tmp_path / "file", quiet, environ=variables())


def test_an_environment_that_is_there_is_only_named(root):
    assert ensure_environment(Environment.from_python("/x/python"), root, quiet, environ={}) == "/x/python"
    assert not root.exists()


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        (
            Environment.from_pip(["pandas"]),
            r"sklearn is missing in Environment\.from_pip\(\['pandas'\]\) \(/x/python\)",
        ),
        (Environment.from_pip(["pandas"]), "add it to requirements"),
        (Environment.from_python("/x/python"), "install it there: /x/python -m pip install"),
    ],
)
def test_what_a_script_misses_is_named_with_the_environment(environment, how):
    assert re.search(
        how, missing_module_hint("ModuleNotFoundError: No module named 'sklearn'", environment, "/x/python")
    )


def test_other_errors_of_a_script_are_not_put_down_to_the_environment():
    assert missing_module_hint("ValueError: No module", Environment.current(), "/x/python") == ""


# Deaths, with an installer that takes its time


SLOW_UV = """\
#!/bin/sh
if [ "$1" = venv ]; then exec "$3" -m venv --without-pip "$4"; fi
echo $$ >> "$STATE/installers"
while [ ! -e "$STATE/go-on" ]; do sleep 0.05; done
exec "$4" - <<END
import pathlib, sysconfig, zipfile
for name in ("pandas-1.5.3", "pyarrow-19.0.0"):
    zipfile.ZipFile(f"$WHEELS/{name}-py3-none-any.whl").extractall(sysconfig.get_path("purelib"))
END
"""

BUILDER = """
import os, sys
from airflow_prs.config.environment import Environment
from airflow_prs.environments.making import ensure_environment
print(ensure_environment(Environment.from_pip([]), sys.argv[1], lambda line: None, environ=os.environ))
"""


class SlowInstaller:
    """Stands in for uv, and waits until it may go on."""

    def __init__(self, folder, wheels):
        self.state = folder / "state"
        self.state.mkdir()
        (folder / "uv").write_text(SLOW_UV)
        (folder / "uv").chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "STATE": str(self.state), "WHEELS": str(wheels)}

    def started(self, count):
        """Wait until so many have been started; their process ids."""
        file, deadline = self.state / "installers", time.monotonic() + DEADLINE_S
        while not file.exists() or len(file.read_text().split()) < count:
            assert time.monotonic() < deadline, "the installer was not started"
            time.sleep(0.02)
        return [int(pid) for pid in file.read_text().split()]

    def go_on(self):
        (self.state / "go-on").touch()


@pytest.fixture
def slow_installer(tmp_path, wheels):
    installer = SlowInstaller(tmp_path, wheels)
    yield installer
    installer.go_on()


def is_running(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_who_asks_after_a_kill_waits_for_the_installer_that_lives_on_and_begins_anew(root, slow_installer, tmp_path):
    temporaries = tmp_path / "temporaries"
    temporaries.mkdir()
    environ = {**slow_installer.environ, "TMPDIR": str(temporaries)}
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(root)], env=environ)
    slow_installer.started(1)
    builder.kill()
    builder.wait()
    assert list(temporaries.iterdir()) == []
    is_waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(
            ensure_environment,
            Environment.from_pip([]),
            root,
            lambda line: is_waiting.set() if line.startswith("Waiting") else None,
            environ=slow_installer.environ,
        )
        assert is_waiting.wait(DEADLINE_S)
        assert len(slow_installer.started(1)) == 1
        slow_installer.go_on()
        assert ask(second.result(DEADLINE_S), "import pandas; print(pandas.__version__)") == "1.5.3"
    assert len(slow_installer.started(2)) == 2


def test_a_task_that_is_stopped_takes_its_installer_along(root, slow_installer):
    class StoppedError(Exception):
        pass

    def stop(number, frame):
        raise StoppedError

    before = signal.signal(signal.SIGUSR1, stop)
    stopper = threading.Thread(target=lambda: (slow_installer.started(1), os.kill(os.getpid(), signal.SIGUSR1)))
    try:
        stopper.start()
        with pytest.raises(StoppedError):
            ensure_environment(Environment.from_pip([]), root, quiet, environ=slow_installer.environ)
    finally:
        stopper.join()
        signal.signal(signal.SIGUSR1, before)
    (installer,) = slow_installer.started(1)
    assert not is_running(installer)
    assert [path.suffix for path in root.iterdir()] == [".lock"]


# Packages that everybody uses

SCRIPT = """
import importlib.util, sys

def init():
    if importlib.util.find_spec("airflow"):
        raise RuntimeError("Airflow is here")

def run(mini_batch):
    if hasattr(mini_batch, "itertuples"):
        return [f"{row.name} {row.price * 2!r}" for row in mini_batch.itertuples()]
    import pandas
    return [f"{path.rpartition('/')[2]} {pandas.__version__} {sys.version.split()[0]}" for path in mini_batch]
"""


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory):
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="session")
def second_python():
    """Another Python than the one of the tests, the oldest that there is."""
    siblings = Path(sys.base_prefix).parent
    found = [shutil.which(name) for name in PYTHONS]
    found += [str(path) for name in PYTHONS for path in sorted(siblings.glob(f"*/bin/{name}"))]
    versions = {version_of(path): path for path in found if path}
    others = {version: path for version, path in versions.items() if version not in {None, sys.version_info[:2]}}
    if not others:
        lacking("there is no second Python from 3.9 to 3.13; install one")
    return others[min(others)]


def version_of(python):
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    answer = subprocess.run([python, "-I", "-c", code], check=False, capture_output=True, text=True)
    return tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else None


@pytest.fixture(params=["pandas 1.5", "newest pandas", "second Python"])
def interpreter(request, shared_root):
    """The Python of an environment that was made for the test."""
    newest = Environment.from_pip(["pandas"])
    if request.param == "second Python":
        environment = Environment.from_pip(["pandas"], python=request.getfixturevalue("second_python"))
    elif request.param == "newest pandas":
        environment = newest
    elif sys.version_info < (3, 12):
        environment = Environment.from_pip(["pandas==1.5.3"])
    else:
        # the newest Python that pandas 1.5 was made for is 3.11
        python = request.getfixturevalue("second_python")
        if version_of(python) >= (3, 12):
            lacking("pandas 1.5 needs a Python from 3.9 to 3.11; install one")
        environment = Environment.from_pip(["pandas==1.5.3"], python=python)
    return ensure_environment(environment, shared_root, logging.getLogger(__name__).info, environ=variables())


@pytest.fixture
def plan(tmp_path):
    """Plan a dataset; the run folder."""

    def plan_dataset(dataset, **config):
        (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
        request = PlanRequest(
            config=make_config(entry_script=str(tmp_path / "script.py"), **config),
            datasets=(dataset.as_named_input("data"),),
            output=str(tmp_path / "out"),
            run_root=str(tmp_path / "runs"),
            dag_folder=str(tmp_path),
            identity=RunIdentity(dag_id="dag", run_id="run", task_id="task", plan="plan"),
            allow_reuse=False,
        )
        return make_plan(request).folder

    return plan_dataset


@pytest.fixture
def run(plan):
    """Plan a dataset and do its only shard; the rows."""

    def plan_and_run(dataset, **config):
        folder = plan(dataset, **config)
        Tries(folder).run()
        return read_rows(folder)

    return plan_and_run


def test_plan_reads_a_requirements_file_beside_the_dag_so_that_nodes_need_not(plan, tmp_path):
    (tmp_path / "requirements.txt").write_text("pandas==1.5.3  # as in the notebook\n")
    (tmp_path / "a.txt").write_text("a")
    folder = plan(FileDataset(tmp_path / "a.txt"), environment=Environment.from_requirements_file("requirements.txt"))
    assert folder.read_settings().config.environment == Environment.from_pip(["pandas==1.5.3"])


def test_plans_with_other_requirements_have_other_fingerprints(plan, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    fingerprints = {
        plan(FileDataset(tmp_path / "a.txt"), environment=Environment.from_pip([pandas])).read_settings().fingerprint
        for pandas in ("pandas==1.5.3", "pandas==2.2.3")
    }
    assert len(fingerprints) == 2


TABLE = {"name": ["ann", "bob", "eve"], "price": [0.1, 1.7, 3.0]}
ROWS = ["ann 0.2", "bob 3.4", "eve 6.0"]


@pytest.mark.slow
def test_a_parquet_table_is_read_in_an_environment_of_its_own(run, tmp_path, interpreter):
    pd.DataFrame(TABLE).to_parquet(tmp_path / "table.parquet")
    dataset = TabularDataset.from_parquet_files(tmp_path / "table.parquet")
    assert run(dataset, environment=interpreter, mini_batch_size="2 rows") == ROWS


@pytest.mark.slow
def test_a_delimited_table_is_read_in_an_environment_of_its_own(run, tmp_path, interpreter):
    pd.DataFrame(TABLE).to_csv(tmp_path / "table.csv", index=False)
    dataset = TabularDataset.from_delimited_files(tmp_path / "table.csv")
    assert run(dataset, environment=interpreter, mini_batch_size="2 rows") == ROWS


@pytest.mark.slow
def test_files_are_given_to_the_python_and_pandas_of_an_environment_of_its_own(run, tmp_path, interpreter):
    (tmp_path / "a.txt").write_text("a")
    own = ask(interpreter, "import pandas, sys; print(pandas.__version__, sys.version.split()[0])")
    assert run(FileDataset(tmp_path / "a.txt"), environment=interpreter) == [f"a.txt {own}"]


@pytest.mark.slow
def test_processes_in_an_environment_of_its_own_agree_on_the_columns_of_the_result(tmp_path, interpreter):
    script = """
        import pandas as pd
        def run(mini_batch):
            names = ["item", "n"] if mini_batch[0] in ("item-0", "item-4") else ["n", "item"]
            return pd.DataFrame({"item": mini_batch, "n": 7})[names]
    """
    folder = make_shard(tmp_path, textwrap.dedent(script), environment=interpreter, append_row_format="csv")
    assert Tries(folder).run()["failed"] == 0
    header, *rows = Path(merge_run(folder).location).read_text().splitlines()
    values = [{"item": f"item-{n}", "n": "7"} for n in range(12)]
    assert rows == [",".join(row[name] for name in header.split(",")) for row in values]
