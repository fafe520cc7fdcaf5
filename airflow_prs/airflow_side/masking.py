"""The secrets that Airflow knows, masked also in other spellings."""

from __future__ import annotations

import re
from collections.abc import Callable

# Airflow 3.1.0 to 3.3.2: nothing public tells which secrets Airflow masks, or masks a text.
from airflow.sdk._shared.secrets_masker import _secrets_masker, redact

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def known_secrets_masker() -> Callable[[str], str]:
    """
    Return a function that masks the secrets that Airflow's secrets masker knows.

    Airflow masks the exact text of each secret, also of those that it learns later. We mask other spellings of those
    that it knows now.
    """
    from airflow_prs.node.masking import Masker

    # Airflow keeps secrets as regular expressions, each made by re.escape().
    mask = Masker(_ESCAPED.sub(r"\1", pattern) for pattern in _secrets_masker().patterns)
    return lambda text: str(redact(mask(text)))
