"""Addresses on object storage: what is understood, what is refused, and with what words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.errors import ConfigError
from airflow_prs.object_storage.addresses import (
    Address,
    Bucket,
    Kind,
    find_problem,
    is_remote,
    normalize,
    parse_address,
    shown_path,
)

UNDERSTOOD = [
    ("s3://bucket/a/b.csv", Address(Bucket(Kind.S3, "bucket"), "a/b.csv")),
    ("s3://my_aws@bucket/a", Address(Bucket(Kind.S3, "bucket", "my_aws"), "a")),
    ("S3A://@bucket.with-dots", Address(Bucket(Kind.S3, "bucket.with-dots"), "")),
    ("s3://bucket/", Address(Bucket(Kind.S3, "bucket"), "")),
    ("s3://bucket/folder/", Address(Bucket(Kind.S3, "bucket"), "folder")),
    ("s3://bucket/a%20b/100%", Address(Bucket(Kind.S3, "bucket"), "a%20b/100%")),
    ("s3://bucket/in/**/*.p?g", Address(Bucket(Kind.S3, "bucket"), "in/**/*.p?g")),
    ("s3://bucket/day=1/a@b:c#d", Address(Bucket(Kind.S3, "bucket"), "day=1/a@b:c#d")),
    ("abfs://my.wasb@container/a", Address(Bucket(Kind.AZURE, "container", "my.wasb"), "a")),
    ("abfss://container/a", Address(Bucket(Kind.AZURE, "container"), "a")),
    ("wasb://$web/a", Address(Bucket(Kind.AZURE, "$web"), "a")),
    ("wasbs://container/a b", Address(Bucket(Kind.AZURE, "container"), "a b")),
]


@pytest.mark.parametrize(("text", "address"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_an_address_has_a_bucket_a_connection_and_the_key_as_the_storage_has_it(text, address):
    assert find_problem(text) is None
    assert parse_address(text) == address
    assert is_remote(text)


REFUSED = [
    ("s3://", "it names no bucket; allowed: s3://conn_id@bucket/key or abfs://conn_id@container/key"),
    ("abfs:///a", "it names no container"),
    ("s3://conn@/a", "it names no bucket"),
    ("s3://localhost:9000/bucket", "'localhost:9000' cannot be the name of a bucket; allowed: letters, digits"),
    ("s3://my bucket/a", "'my bucket' cannot be the name of a bucket"),
    ("abfs://Container/a", "'Container' cannot be the name of a container; allowed: lower-case letters"),
    (
        "abfs://in@account.dfs.core.windows.net/a",
        "account.dfs.core.windows.net is a host; allowed: abfs://conn_id@in/key, with the account or endpoint in",
    ),
    ("wasbs://in@account.blob.core.chinacloudapi.cn/a", "is a host; allowed: abfs://conn_id@in/key"),
    ("abfs://account.blob.core.windows.net/in", "is a host; allowed: abfs://conn_id@name/key"),
    ("s3://bucket.s3.eu-west-1.amazonaws.com/a", "is a host; allowed: s3://conn_id@bucket/key, with"),
    ("s3://AKIA:hidden@bucket/a", "credentials cannot be part of a path; put them into an Airflow connection"),
    ("s3://my conn@bucket/a", "'my conn' cannot be the id of a connection"),
    ("s3://bucket//a", "the key has an empty part; allowed: one slash between two names"),
    ("s3://bucket//", "the key has an empty part"),
    ("s3://bucket/a//", "the key has an empty part"),
    ("s3://bucket/a/../b", "the key has '.' or '..' as a part"),
    ("s3://bucket/./b", "the key has '.' or '..' as a part"),
    ("s3://bucket/a?versionId=3", "a query such as ?versionId= cannot be part of a path; remove it"),
    ("abfs://in/a?sv=2024&sig=hidden", "a query such as ?versionId= cannot be part of a path"),
    ("s3://bucket/a\nb", "the key has a control character"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED, ids=[text for text, _ in REFUSED])
def test_an_address_that_cannot_be_meant_is_refused_with_what_is_wrong(text, problem):
    assert problem in find_problem(text)
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert problem in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gs://bucket/a", "gs:// is not supported yet; allowed: a local path, s3://conn_id@bucket/key or abfs://"),
        ("https://account.blob.core.windows.net/in", "https:// is not supported; allowed: a local path, s3://"),
        ("hdfs://host/a", "hdfs:// is not supported; allowed"),
        ("gs://{{ var.value.bucket }}/a", "gs:// is not supported yet"),
    ],
)
def test_another_storage_is_refused_with_what_is_allowed(text, problem):
    assert problem in find_problem(text)
    assert not is_remote(text)


@pytest.mark.parametrize("text", ["/a", "a/b", "/a://b", "a/*.png", "file:///a", "", "s3:/a", "C:\\a"])
def test_a_local_path_is_no_address_and_no_problem(text):
    assert find_problem(text) is None
    assert not is_remote(text)
    with pytest.raises(ConfigError, match="is not an address on object storage; allowed: s3://"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("s3a://c@bucket/a/", "s3://c@bucket/a/"),
        ("wasbs://in/", "abfs://in"),
        ("s3://@bucket", "s3://bucket"),
        ("file:///a/b", "/a/b"),
        ("a/b/", "a/b/"),
        ("s3a://{{ var.value.bucket }}//{{ ds }}", "s3a://{{ var.value.bucket }}//{{ ds }}"),
        ("s3a://bucket//a", "s3a://bucket//a"),
    ],
)
def test_the_form_that_is_kept_has_one_scheme_for_each_kind_of_storage(text, normal):
    assert normalize(text) == normal


def test_a_template_is_checked_once_it_is_rendered():
    assert find_problem("s3://{{ conn }}@{{ bucket }}//in") is None
    with pytest.raises(ConfigError):
        parse_address("s3://{{ conn }}@{{ bucket }}/in")


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:hidden@bucket/a",
        "s3://AKIA:hid/hidden@bucket/a",
        "https://a.blob.core.windows.net/in/a?sv=1&sig=hidden",
        "https://user:hidden@host/a",
    ],
)
def test_what_may_be_a_secret_in_a_path_is_not_shown(text):
    assert "hidden" not in shown_path(text)
    assert "***" in shown_path(text)


SEGMENT = st.text(st.characters(exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda part: part not in {".", ".."}
)
KEYS = st.lists(SEGMENT, max_size=4).map("/".join)
CONN_IDS = st.none() | st.from_regex(r"[\w().!-]{1,20}", fullmatch=True).filter(str.isascii)
BUCKETS = st.builds(
    Bucket, st.just(Kind.S3), st.from_regex(r"[a-z0-9][a-z0-9.-]{1,40}[a-z0-9]", fullmatch=True), CONN_IDS
) | st.builds(Bucket, st.just(Kind.AZURE), st.from_regex(r"[a-z0-9][a-z0-9-]{2,40}", fullmatch=True), CONN_IDS)


@given(BUCKETS, KEYS)
def test_an_address_as_text_is_read_as_the_same_address(bucket, key):
    address = Address(bucket, key)
    if (problem := find_problem(str(address))) is None:
        assert parse_address(str(address)) == address
        assert normalize(str(address)) == str(address)
    else:
        assert "query" in problem or "host" in problem


@given(st.text() | st.builds("{}://{}".format, st.sampled_from(["s3", "S3a", "abfs", "wasbs", "gs"]), st.text()))
def test_any_text_is_either_refused_or_stable(text):
    if not is_remote(text) or find_problem(text) is not None:
        return
    try:
        once = parse_address(text)
    except ConfigError:
        assert "{{" in text or "{%" in text
        return
    assert parse_address(str(once)) == once
    assert parse_address(normalize(text)) == once


@given(BUCKETS, KEYS.filter(bool), SEGMENT)
def test_what_is_below_an_address_has_it_as_its_parent(bucket, key, name):
    below = Address(bucket, key) / name
    assert (below.parent, below.name) == (Address(bucket, key), name)
