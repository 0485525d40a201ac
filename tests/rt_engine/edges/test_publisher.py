"""The publisher: who comes late understands, who does not listen costs nothing, who is outside stays there."""

import numpy as np
import pytest
import zmq

from rt_engine.edges.publisher import HIGH_WATER_MARK, Publisher
from rt_engine.errors import M2MError, SettingsError
from rt_engine.messages import GeometryHeader, HealthHeader, decode


@pytest.fixture
def publisher():
    made = Publisher("tcp://127.0.0.1:*", "test-session")
    yield made
    made.close()


@pytest.fixture
def subscribe(publisher):
    sockets = []

    def make(topic=b""):
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, topic)
        socket.connect(publisher.address)
        sockets.append(socket)
        return socket

    yield make
    for socket in sockets:
        socket.close(0)


def geometry():
    header = GeometryHeader(subject="s", space="RAS", hemisphere="left", box_shape=[64, 64, 64], n_voxels=1)
    return header, {"voxel": (np.zeros((1, 3), np.int16), "1"), "affine": (np.eye(4), "mm")}


def receive(publisher, socket, until):
    until(lambda: publisher.serve_subscribers() or socket.poll(0), "a message")
    return decode(socket.recv_multipart())


def test_a_late_subscriber_gets_what_it_missed(publisher, subscribe, until):
    publisher.send(*geometry())
    header, arrays = receive(publisher, subscribe(), until)
    assert (header.topic, header.session, header.seq) == ("geometry", "test-session", 0)
    np.testing.assert_array_equal(arrays["affine"], np.eye(4))


def test_a_subscriber_to_other_topics_is_left_alone(publisher, subscribe, until):
    publisher.send(*geometry())
    socket = subscribe(b"health")
    until(lambda: publisher._socket.poll(0), "the subscription")
    publisher.serve_subscribers()
    publisher.send(HealthHeader(state="READY", t=1.0))
    header, _ = receive(publisher, socket, until)
    assert header.topic == "health"


def test_seq_counts_per_topic_without_holes(publisher, subscribe, until):
    socket = subscribe(b"health")
    until(lambda: publisher._socket.poll(0), "the subscription")
    for _ in range(3):
        publisher.send(*geometry())
        publisher.send(HealthHeader(state="READY", t=1.0))
    assert [receive(publisher, socket, until)[0].seq for _ in range(3)] == [0, 1, 2]


def test_a_subscriber_that_never_reads_does_not_stop_the_others(publisher, subscribe, until):
    publisher.send(*geometry())
    idle, eager = subscribe(), subscribe()
    receive(publisher, eager, until)
    big = {"voxel": (np.zeros((100_000, 3), np.int16), "1"), "affine": (np.eye(4), "mm")}
    for n in range(4 * HIGH_WATER_MARK):
        publisher.send(geometry()[0], big)
        until(lambda n=n: receive(publisher, eager, until)[0].seq == n + 1, "the newest message")
    assert idle.poll(10_000)  # it has its first messages, and no more than its queues hold


def test_a_port_that_is_taken_is_a_clear_error(publisher):
    with pytest.raises(M2MError, match="cannot listen at"):
        Publisher(publisher.address, "another")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5556", "tcp://192.168.1.4:5556", "tcp://[::]:5556", "tcp://*:5556"])
def test_the_network_cannot_listen_without_authentication(address):
    with pytest.raises(SettingsError, match="network|cannot publish"):
        Publisher(address, "open")


@pytest.mark.parametrize("address", ["127.0.0.1:5556", "http://127.0.0.1:80", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SettingsError, match="expected e.g."):
        Publisher(address, "none")
