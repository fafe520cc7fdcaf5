"""Objects are read as files are."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputChangedError
from airflow_prs.inputs.files.opening import open_object
from airflow_prs.object_storage import ranges
from tests.buckets import buckets_in_memory

ADDRESS = "s3://bkt/d/a"


@pytest.fixture
def bucket():
    with buckets_in_memory("bkt") as buckets:
        yield buckets["bkt"]


def opened(bucket, content, begin=0):
    bucket.store.put("d/a", content)
    return open_object(ADDRESS, len(content), bucket.store.head("d/a")["e_tag"], content[:begin])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 60)),
        st.tuples(st.just("readinto"), st.integers(0, 60)),
        st.tuples(st.just("seek"), st.integers(0, 250)),
        st.tuples(st.just("end"), st.integers(0, 250)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), steps, st.integers(0, 50), st.integers(1, 16))
def test_an_object_is_read_as_a_file_is(content, steps, begin, least):
    with buckets_in_memory("bkt") as buckets, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_LEAST_BYTES", least)
        patch.setattr(ranges, "_BLOCK_BYTES", 64)
        patch.setattr(ranges, "_GROWTH", 2)
        plain = io.BytesIO(content)
        with opened(buckets["bkt"], content, begin) as file:
            for step, number in steps:
                if step == "read":
                    assert file.read(number) == plain.read(number)
                elif step == "readinto":
                    own, other = bytearray(number), bytearray(number)
                    assert file.readinto(own) == plain.readinto(other)
                    assert own == other
                else:
                    place = (number,) if step == "seek" else (-min(number, len(content)), io.SEEK_END)
                    assert file.seek(*place) == plain.seek(*place)
                assert file.tell() == plain.tell()


def test_a_large_object_is_read_in_few_requests(bucket):
    content = bytes(range(256)) * 4096 * 40
    with opened(bucket, content, begin=2**20) as file:
        assert b"".join(iter(lambda: file.read(512 * 1024), b"")) == content
    assert bucket.requests == {"get": 5}


def test_the_end_of_an_object_is_one_request(bucket):
    with opened(bucket, bytes(10**6)) as file:
        file.seek(-8, io.SEEK_END)
        file.read(8)
        file.seek(-5000, io.SEEK_END)
        file.read(4992)
    assert bucket.requests == {"get": 1}


def test_no_answer_is_of_another_version(bucket):
    content = bytes(10**6)
    with opened(bucket, content) as file:
        file.read(10)
        bucket.store.put("d/a", content)
        assert file.read(10) == bytes(10)
        with pytest.raises(InputChangedError, match="'s3://bkt/d/a' changed while plan was reading the input"):
            file.read()
        bucket.store.delete("d/a")
        with pytest.raises(InputChangedError, match="'s3://bkt/d/a' is gone"):
            file.read()


def test_a_file_that_is_left_early_waits_for_nothing(bucket):
    with opened(bucket, bytes(100 * 2**20), begin=2**20) as file:
        file.read(3 * 2**20)
    assert bucket.requests["get"] <= 4
    assert file.closed
