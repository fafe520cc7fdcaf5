"""Whoever waits for object storage says so."""

from __future__ import annotations

import threading

from airflow_prs.object_storage.addresses import Bucket, Kind
from airflow_prs.object_storage.waiting import say_what_is_awaited, under_way

BUCKET = Bucket(Kind.S3, "pictures", "my_aws")


def test_a_bucket_that_does_not_answer_is_named_once():
    said, has_spoken = [], threading.Event()

    def say(text):
        said.append(text)
        has_spoken.set()

    with say_what_is_awaited(say, after_s=0.01), under_way(BUCKET), under_way(BUCKET):
        assert has_spoken.wait(60)
    assert said == ["s3://my_aws@pictures has not answered for 0.01 seconds; retrying for up to 60 seconds"]


def test_a_bucket_that_has_answered_is_not_awaited():
    said = []
    with say_what_is_awaited(said.append, after_s=0.01):
        with under_way(BUCKET):
            pass
        threading.Event().wait(0.05)
    assert said == []
