from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import StagingError
from airflow_prs.node.input.places import Places
from airflow_prs.object_storage.addresses import Address, Bucket, Kind

BUCKETS = [Bucket(Kind.S3, "bucket", "my conn"), Bucket(Kind.AZURE, "container"), Bucket(Kind.S3, "b.c", "a@b")]
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.sampled_from(BUCKETS), st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4))
def test_a_local_path_ends_with_the_key_and_can_be_turned_back(bucket, names):
    places, address = Places(Path("/tmp/node 1/input")), Address(bucket, "/".join(names))
    path = places.path(places.next_number(), address)
    assert path.endswith(f"/{address.key}")
    assert places.as_planned(f"cannot read '{path}'!") == f"cannot read '{address}'!"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("a/../b", r"a part of the key is '\.\.'"),
        ("a//b", "a part of the key is ''"),
        ("./a", r"a part of the key is '\.'"),
        ("a\0b", "a part of the key has a NUL character"),
        ("ä" * 128, "a part of the key has more than 255 bytes"),
        ("/".join(["a" * 200] * 21), "it would have more than 4095 bytes"),
    ],
)
def test_a_key_that_cannot_be_a_local_path_is_named_with_the_reason(key, reason):
    places = Places(Path("/tmp/node/input"))
    with pytest.raises(StagingError, match=rf"(?s)^s3://c@b/.*: this key cannot be a local path: {reason}; .*direct"):
        places.path(0, Address(Bucket(Kind.S3, "b", "c"), key))
    assert places.path(0, Address(Bucket(Kind.S3, "b", "c"), "ä" * 127)).endswith("ä")
