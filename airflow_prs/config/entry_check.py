"""Check the entry script before anything starts: it can be parsed and defines run()."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from airflow_prs.errors import EntryScriptError


def check_entry_script(source: bytes, name: str, *, is_same_python: bool = True) -> None:
    """
    Check an entry script without running it.

    :param source: content of the script.
    :param name: name of the script in errors.
    :param is_same_python: whether this Python will run the script. Another one may know more syntax, so its worker
        processes report syntax errors.
    :raises EntryScriptError: if the script is not Python, or does not define ``run`` at its top level.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow parses a DAG file again and again
            tree = ast.parse(source, name)
            if is_same_python:
                compile(tree, name, "exec", dont_inherit=True)  # finds more than the parser does
    except SyntaxError as error:
        if not is_same_python:
            return
        raise EntryScriptError(f"{name}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # the source has null bytes
        raise EntryScriptError(f"{name} is not a Python script: {error}") from error
    if not any(found in {"run", "*"} for found in _top_level_names(tree.body)):
        raise EntryScriptError(
            f"{name} defines no run(); an entry script needs 'def run(mini_batch):', which returns one element for "
            "each item that succeeded."
        )


def _top_level_names(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements bind, also inside if, try, with and loops, but not inside functions."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
