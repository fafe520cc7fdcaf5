"""What Airflow knows as secrets, hidden also where it is spelled in another way."""

from __future__ import annotations

import re
from collections.abc import Callable

from airflow.sdk._shared.secrets_masker import _secrets_masker, redact

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def known_secrets_masker() -> Callable[[str], str]:
    """
    Return a function that masks what Airflow's secrets masker knows as secrets.

    Airflow masks each secret as it is, those that it learns later too. We mask other spellings of those known now.
    """
    from airflow_prs.node.masking import Masker

    # Airflow keeps them as regular expressions, each made by re.escape().
    mask = Masker(_ESCAPED.sub(r"\1", pattern) for pattern in _secrets_masker().patterns)
    return lambda text: str(redact(mask(text)))
