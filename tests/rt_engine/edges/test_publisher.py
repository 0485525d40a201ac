"""The publisher: who comes late understands, who does not listen costs nothing, who is outside stays there."""

import numpy as np
import pytest
import zmq

from rt_engine.edges.publisher import AT_MOST_PER_CALL, HIGH_WATER_MARK, Publisher
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

    def make(topic=b"", queue=1000):
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, queue)
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


def drained(socket):
    """Read what there is; nothing more comes after a pause of 0.2 s, since nothing is sent meanwhile."""
    seqs = []
    while socket.poll(200):
        seqs.append(decode(socket.recv_multipart())[0].seq)
    return seqs


def test_a_subscriber_that_never_reads_costs_one_full_queue_and_is_counted(publisher, subscribe, until):
    """However much is sent, the engine keeps the same number of messages for it; the rest is dropped, not queued."""
    idle, eager = subscribe(b"health", queue=10), subscribe(b"health")
    big = {"any": (np.zeros(300_000, np.float32), "1")}
    sent = -1

    def send():
        nonlocal sent
        sent += 1
        publisher.serve_subscribers()
        publisher.send(HealthHeader(state="READY", t=1.0), big)

    until(lambda: send() or (idle.poll(0) and eager.poll(0)), "both to be connected")
    first = decode(idle.recv_multipart())[0].seq
    heard = decode(eager.recv_multipart())[0].seq

    def send_heard():
        nonlocal heard
        send()
        while heard < sent:
            until(lambda: eager.poll(0), "the next message")
            heard += 1
            assert decode(eager.recv_multipart())[0].seq == heard

    while publisher.n_overflows == 0:
        send_heard()
        assert sent < first + 4 * HIGH_WATER_MARK, "a queue without end"
    first_lost = sent
    for _ in range(HIGH_WATER_MARK):
        send_heard()
    assert publisher.n_overflows == 1, "it began to lose messages once"
    assert drained(idle) == list(range(first + 1, first_lost)), "what came before its queue was full, and no more"
    send_heard()
    until(lambda: idle.poll(0), "the newest message: there is room again")
    assert decode(idle.recv_multipart())[0].seq == sent


def test_a_subscriber_that_reads_a_burst_loses_nothing_of_it(publisher, subscribe, until):
    """ZeroMQ notices what was read only now and then; a queue that only looks full must not cost a message."""
    publisher.send(*geometry())
    eager = subscribe(b"geometry")
    receive(publisher, eager, until)
    for n in range(1, 10 * HIGH_WATER_MARK):
        publisher.send(*geometry())
        until(lambda: eager.poll(0), "the message")
        assert decode(eager.recv_multipart())[0].seq == n
    assert publisher.n_overflows == 0


def test_a_flood_of_subscriptions_is_served_in_portions(publisher, subscribe, until):
    socket = subscribe()
    for n in range(3 * AT_MOST_PER_CALL):
        socket.subscribe(str(n).encode())
    until(lambda: publisher._socket.poll(0), "the first subscription")
    calls = 0
    last = str(3 * AT_MOST_PER_CALL - 1).encode()
    seen = []
    receive_one = publisher._socket.recv

    class Counting:
        def __getattr__(self, name):
            return getattr(publisher._bound.socket, name)

        def recv(self, flags):
            seen.append(receive_one(flags))
            return seen[-1]

    publisher._socket = Counting()

    def served():
        nonlocal calls
        before = len(seen)
        publisher.serve_subscribers()
        calls += 1
        assert len(seen) - before <= AT_MOST_PER_CALL
        return b"\x01" + last in seen

    until(served, "all subscriptions")
    assert calls >= 3


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
