import pytest

from airflow_prs.config.requirements import complete, find_problem, nested_file, split_lines


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["pandas", "pyarrow"]),
        (["scikit-learn"], ["pandas", "pyarrow"]),
        (["Pandas[performance]>=2", "pyarrow==20.0.0"], []),
        (["pandas==2.3.1"], ["pyarrow"]),
        (["pandas @ https://host/pandas.whl", "/wheels/pyarrow-20.0.0-cp311-abi3-linux_x86_64.whl"], []),
        (["pandas==2.3.1 --hash=sha256:ab", "--extra-index-url https://host/simple"], ["pyarrow"]),
    ],
)
def test_pandas_and_pyarrow_are_added_unless_they_are_named(given, added):
    assert complete(given) == (*given, *added)


@pytest.mark.parametrize(
    "old", ["pandas==1.5.3", "pandas~=1.5.0", "pandas<2", "pandas>=1.5,<=2.2.1", "pandas==2.1.*", "pandas===2.0.3"]
)
def test_a_pandas_older_than_numpy_2_gets_the_numpy_that_it_works_with(old):
    assert complete([old]) == (old, "pyarrow<20", "numpy<2")


@pytest.mark.parametrize(
    "new", ["pandas", "pandas>=1.5", "pandas<3", "pandas==2.2.*", "pandas~=2.2", "pandas>2.3.0,<2.3.2", "pandas!=2.2.2"]
)
def test_a_pandas_that_may_be_new_leaves_numpy_alone(new):
    assert complete([new]) == (new, "pyarrow")


def test_a_numpy_of_the_users_own_is_left_alone():
    assert complete(["pandas==1.5.3", "numpy==1.23.5"]) == ("pandas==1.5.3", "numpy==1.23.5", "pyarrow<20")


def test_a_pyarrow_older_than_numpy_2_gets_the_numpy_that_it_works_with():
    assert complete(["pyarrow==14.0.2"]) == ("pyarrow==14.0.2", "pandas", "numpy<2")


def test_versions_by_marker_are_old_only_if_all_are():
    both = ["pandas==1.5.3; python_version < '3.12'", "pandas>=2.2.3; python_version >= '3.12'"]
    assert complete(both) == (*both, "pyarrow")


@pytest.mark.parametrize(
    "line",
    [
        "scikit-learn",
        "scikit-learn==1.5.2 ; python_version < '3.13'",
        "model @ https://${TOKEN}@host/model-1.0.tar.gz",
        "https://user:${TOKEN}@host/model-1.0-py3-none-any.whl",
        "git+ssh://git@github.com/owner/model",
        "/wheels/model-1.0-py3-none-any.whl",
        "--extra-index-url https://host/simple",
        "-c https://host/constraints.txt",
        "-r requirements.txt",
        "-r https://host/requirements.txt",
    ],
)
def test_what_means_the_same_on_every_node_is_allowed(line):
    assert find_problem(line) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("scikit learn", "'scikit learn' is not a valid requirement"),
        ("pandas=1.5.3", "'pandas=1.5.3' is not a valid requirement"),
        ("-e .", "may change"),
        ("--editable=/src/model", "may change"),
        ("-c constraints.txt", "names a file that nodes may not have"),
        ("./model", "is a relative path"),
        ("wheels/model-1.0-py3-none-any.whl", "is a relative path"),
    ],
)
def test_what_cannot_be_installed_on_every_node_says_so(line, problem):
    assert problem in find_problem(line)


@pytest.mark.parametrize(
    "line",
    [
        "git+https://s3cr3t@github.com/owner/model",
        "--extra-index-url https://user:s3cr3t@host/simple",
        "model @ https://${USER}:s3cr3t@host/model.whl",
    ],
)
def test_a_secret_in_a_url_is_refused_without_being_shown(line):
    problem = find_problem(line)
    assert "password or token" in problem
    assert "s3cr3t" not in problem


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("-r more.txt", "more.txt"),
        ("-rmore.txt", "more.txt"),
        ("--requirement=more.txt", "more.txt"),
        ("--requirement /x/more.txt", "/x/more.txt"),
        ("-r https://host/more.txt", None),
        ("requests", None),
    ],
)
def test_a_line_may_refer_to_a_file(line, path):
    assert nested_file(line) == path


def test_comments_and_blank_lines_are_left_out_and_continued_lines_joined():
    text = "# packages\n\nnumpy  # arrays\npandas==2.2.3 \\\n    --hash=sha256:ab\nhttps://host/x.whl#sha256=ab\n"
    assert split_lines(text) == ["numpy", "pandas==2.2.3      --hash=sha256:ab", "https://host/x.whl#sha256=ab"]
