"""Why a client's socket does not get through to an engine, from what ZeroMQ reports of the attempt."""

from collections.abc import Set

import zmq

HANDSHAKE_FAILURES = frozenset(
    {
        zmq.Event.HANDSHAKE_FAILED_AUTH,
        zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
        zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    }
)

HANDSHAKE_EVENTS = (
    zmq.Event.CONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)
"""What a socket's monitor must watch."""


def why_not_connected(events: Set[int], has_keys: bool) -> str:
    """Say why there is no connection.

    Parameters
    ----------
    events
        Those of `HANDSHAKE_EVENTS` that the socket's monitor has reported.
    has_keys
        Whether the client has CURVE keys.

    Returns
    -------
    str
        The reason and what to do; half a sentence.
    """
    if zmq.Event.CONNECTED not in events:
        return "nobody listens there; check that the engine runs and where"
    if zmq.Event.HANDSHAKE_FAILED_AUTH in events:
        return "the engine does not know this client's key; put its NAME.key into the engine's publish.curve_clients"
    if events & HANDSHAKE_FAILURES and has_keys:  # which of the two, ZeroMQ does not say reliably
        return "who answers there has another key than the file of --server-key says, or asks for none"
    if events & HANDSHAKE_FAILURES:
        return "the engine asks for a key; give yours with --key and its public one with --server-key"
    return "somebody listens there, but does not answer as an engine does"
