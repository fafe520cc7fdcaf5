import os
import socket

import pytest

from airflow_prs.worker.channel import OUT_OF_THE_WAY, Channel, SupervisorGoneError, encode_frame


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
