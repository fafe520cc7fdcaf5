"""Secrets are hidden however a text spells them."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.node.masking import MASK, Masker
from airflow_prs.worker.failures import shorten

CORE = "c0rE7"
"""Part of each secret here that no spelling changes."""

awkward = st.text(st.sampled_from("'\"\\/ %&+\n\tä€😀a"), max_size=6)
secrets = st.builds(lambda before, after: before + CORE + after, awkward, awkward)

SPELLINGS = {
    "as it is": str,
    "repr": repr,
    "repr beside the other quote": lambda secret: repr(f"it's {secret}"),
    "repr beside both quotes": lambda secret: repr(f"it's \"{secret}"),
    "ascii": ascii,
    "repr of bytes": lambda secret: repr(secret.encode()),
    "JSON": json.dumps,
    "JSON with its own characters": lambda secret: json.dumps(secret, ensure_ascii=False),
    "part of a URL": lambda secret: f"http://user:{quote(secret, safe='')}@host",
    "path of a URL": quote,
    "query": quote_plus,
    "in one line": lambda secret: " ".join(secret.split()),
    "last line alone": lambda secret: secret.splitlines()[-1] if CORE in secret.splitlines()[-1] else secret,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(secret=secrets)
def test_a_secret_is_hidden_in_every_spelling(spelling, secret):
    assert CORE not in Masker([secret])(f"before {SPELLINGS[spelling](secret)} after")


@given(secret=st.text("abcdef", min_size=12, max_size=40), before=st.integers(0, 60), after=st.integers(0, 60))
def test_no_part_of_a_secret_is_left_where_a_text_was_cut(secret, before, after):
    cut = shorten("-" * before + secret + "-" * after, 40)
    masked = Masker([secret])(cut)
    assert not any(secret[i : i + 4] in masked for i in range(len(secret) - 3))


@pytest.mark.parametrize("order", [("secret", "secret-longer"), ("secret-longer", "secret")])
def test_nothing_is_left_of_a_secret_that_begins_with_another(order):
    assert Masker(order)("secret-longer") == MASK


def test_short_values_and_other_text_stay():
    assert Masker(["true", "1", ""])("true is 1 ... or not") == "true is 1 ... or not"
    assert Masker([])("anything ... at all") == "anything ... at all"
    assert Masker(["swordfish"])("nothing ... of it") == "nothing ... of it"
