"""A ZeroMQ socket that is bound where it may be: on this machine, or anywhere for those whose CURVE key is known."""

import ipaddress
import re
from collections.abc import Mapping

import zmq
from zmq.auth.thread import ThreadAuthenticator

from rt_engine.edges.curve_keys import CurveKeys
from rt_engine.errors import M2MError, SettingsError

HANDSHAKE_MS = 5000
"""Whoever connects and has not said who it is after this long is cut off."""

_DOMAIN = "m2m"


class BoundSocket:
    """A bound socket, with the guard of its door if it has one.

    Parameters
    ----------
    kind
        ``zmq.XPUB`` or ``zmq.ROUTER``.
    address
        TCP (port ``*`` picks a free one), ``ipc://`` or ``inproc://``.
    keys
        The engine's CURVE keys. Without, nobody is asked for a key and only loopback is allowed; with, only clients
        whose public key is known are let in, on loopback too.
    options
        Socket option -> value, set before the socket is bound.
    setting
        Key of the address in the settings, for the errors.

    Attributes
    ----------
    socket
        The bound socket.
    address
        Where it really is.

    Raises
    ------
    SettingsError
        If the address is none, or public without keys.
    M2MError
        If it is taken.
    """

    def __init__(
        self, kind: int, address: str, keys: CurveKeys | None, options: Mapping[int, int], setting: str
    ) -> None:
        refuse_public(address, keys is not None, setting)
        self._guard: ThreadAuthenticator | None = None
        # A guard answers for all of its context, so a socket with keys has a context of its own.
        self._context: zmq.Context[zmq.Socket[bytes]] | None = zmq.Context() if keys else None
        self.socket: zmq.Socket[bytes] = (self._context or zmq.Context.instance()).socket(kind)
        try:
            if keys and self._context:
                self._guard = _start_guard(self._context, keys)
                self.socket.curve_server = True
                self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
                self.socket.zap_domain = _DOMAIN.encode()
                # Without this, ZeroMQ lets everybody in when the guard is not there.
                self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            self.socket.setsockopt(zmq.IPV6, "[" in address)
            for option, value in options.items():
                self.socket.setsockopt(option, value)
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.close(0)
            raise M2MError(
                f"cannot listen at {address}: {error.strerror}. If another engine runs, stop it or give this one "
                f"another {setting}"
            ) from error
        self.address: str = self.socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def close(self, linger_ms: int | None = None) -> None:
        """Close the socket and dismiss its guard.

        Parameters
        ----------
        linger_ms
            How long messages on their way are waited for; by default as long as the socket's own option says.
        """
        self.socket.close(linger_ms)
        if self._guard:
            self._guard.stop()
        if self._context:
            self._context.term()
        self._guard = self._context = None


class _KnownClients:
    """What pyzmq's guard asks, in its own thread, whenever a client shows its key."""

    def __init__(self, keys: CurveKeys) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the client with this public key (Z85) is let in."""
        return self._keys.knows(key)


def _start_guard(context: "zmq.Context[zmq.Socket[bytes]]", keys: CurveKeys) -> ThreadAuthenticator:
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve_callback(_DOMAIN, _KnownClients(keys))
    return guard


def refuse_public(address: str, has_keys: bool, setting: str) -> None:
    """Refuse an address that other machines could reach, unless clients must show a key.

    Parameters
    ----------
    address
        ZeroMQ endpoint.
    has_keys
        Whether the socket has CURVE keys.
    setting
        Key of the address in the settings.

    Raises
    ------
    SettingsError
        If the address is none, or is neither loopback nor ``ipc://`` nor ``inproc://`` and there are no keys.
    """
    found = re.fullmatch(r"tcp://(?P<host>\[.+\]|[^:]+):(\d+|\*)", address)
    if found is None:
        if re.match(r"(ipc|inproc)://.", address) and not has_keys:
            return
        if re.match(r"(ipc|inproc)://.", address):
            raise SettingsError(f"{setting} is {address!r}, which needs no CURVE keys: leave out publish.curve_secret")
        raise SettingsError(f"{setting} is {address!r}; expected e.g. 'tcp://127.0.0.1:5556'")
    if has_keys:
        return
    host = found["host"].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise SettingsError(
            f"{setting} {address} would be open to the network, and nobody would be asked for a key: make keys with "
            "`m2m keys` and name them in publish.curve_secret and publish.curve_clients, or use 'tcp://127.0.0.1:PORT'"
        )
