import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.worker.channel import (
    OUT_OF_THE_WAY,
    Channel,
    Revision,
    SupervisorGoneError,
    decode_frame,
    encode_frame,
)


@pytest.fixture
def ends():
    supervisor, worker = socket.socketpair()
    channel = Channel(worker.detach())
    with supervisor:
        yield supervisor, channel
    channel.close()


def test_frames_sent_ahead_are_received_one_by_one(ends):
    supervisor, channel = ends
    supervisor.sendall(b"".join(encode_frame({"run": [index]}) for index in range(100)))
    assert [channel.receive() for _ in range(100)] == [{"run": [index]} for index in range(100)]


def test_a_frame_that_arrives_in_parts_is_received_whole(ends):
    supervisor, channel = ends
    frame = encode_frame({"run": ["x" * 50_000]})
    supervisor.sendall(frame[:3])
    supervisor.sendall(frame[3:4000])
    supervisor.sendall(frame[4000:])
    assert channel.receive() == {"run": ["x" * 50_000]}


def test_the_answer_to_a_mini_batch_comes_back_as_it_was(ends):
    supervisor, channel = ends
    answer = {"done": (2**40, 3, 2**50, 7, 2**32 - 1, 1.5e9 + 1e-6, 0.25, 0.125, 0.0625)}
    supervisor.sendall(encode_frame(answer) + encode_frame({"note": "x"}))
    assert [channel.receive(), channel.receive()] == [answer, {"note": "x"}]


def test_the_end_of_the_channel_is_no_frame(ends):
    supervisor, channel = ends
    supervisor.sendall(encode_frame({"run": [1]})[:-1])
    supervisor.close()
    assert channel.receive() is None


def test_a_frame_that_is_sent_comes_back_as_it_was(ends):
    supervisor, channel = ends
    other = Channel(os.dup(supervisor.fileno()))
    channel.send({"note": "línea \udcff\n"})
    assert other.receive() == {"note": "línea \udcff\n"}
    other.close()


def test_sending_to_nobody_says_that_the_supervisor_is_gone(ends):
    supervisor, channel = ends
    supervisor.close()
    with pytest.raises(SupervisorGoneError):
        channel.send({"ready": {}})


def test_the_channel_leaves_the_low_descriptors_to_the_user():
    here, there = socket.socketpair()
    fd = there.detach()
    channel = Channel(fd)
    with here, pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
    assert channel._fd >= OUT_OF_THE_WAY
    assert not os.get_inheritable(channel._fd)
    channel.close()


def test_frames_that_have_come_whole_are_taken_without_waiting_for_the_rest(ends):
    supervisor, channel = ends
    last = encode_frame({"number": 3})
    supervisor.sendall(encode_frame({"number": 1}) + encode_frame({"number": 2}) + last[:6])
    assert channel.read()
    assert channel.receive_available() == [{"number": 1}, {"number": 2}]
    assert channel.receive_available() == []
    supervisor.sendall(last[6:])
    assert channel.read()
    assert channel.receive_available() == [{"number": 3}]


@given(st.integers(0, 2**32 - 1), st.integers(-1, 2**40), st.binary())
def test_a_revision_comes_back_as_it_was(question, number, content):
    message = {"layout": Revision(question, number, content)}
    assert decode_frame(encode_frame(message)[4:]) == message


def send_all(supervisor, *messages):
    supervisor.sendall(b"".join(map(encode_frame, messages)))


def test_what_arrives_before_an_answer_is_received_after_it_in_order(ends):
    supervisor, channel = ends
    send_all(supervisor, {"run": [1]}, {"cancel": 2}, {"layout": (1, 7, b"seven")}, {"close": True})
    assert channel.ask_layout(7, b"mine") == (7, b"seven")
    asked = Channel(os.dup(supervisor.fileno()))
    assert asked.receive() == {"layout": Revision(1, 7, b"mine")}
    asked.close()
    assert [channel.receive() for _ in range(3)] == [{"run": [1]}, {"cancel": 2}, {"close": True}]


def test_what_arrives_around_an_answer_is_available_after_it(ends):
    supervisor, channel = ends
    send_all(supervisor, {"cancel": 2}, {"layout": (1, -1, b"")}, {"close": True})
    assert channel.ask_layout(0, b"") == (-1, b"")
    assert channel.receive_available() == [{"cancel": 2}, {"close": True}]
    assert channel.receive_available() == []


def test_the_answer_to_a_question_that_was_given_up_is_not_that_to_the_next(ends):
    supervisor, channel = ends
    channel._questions = 1
    send_all(supervisor, {"layout": (1, 0, b"late")}, {"layout": (2, 3, b"three")})
    assert channel.ask_layout(0, b"mine") == (3, b"three")


def test_a_question_to_a_supervisor_that_goes_says_that_it_is_gone(ends):
    supervisor, channel = ends
    send_all(supervisor, {"run": [1]})
    supervisor.shutdown(socket.SHUT_WR)
    with pytest.raises(SupervisorGoneError):
        channel.ask_layout(0, b"mine")
    assert channel.receive() == {"run": [1]}
