"""CURVE keys: key pairs in files of their own, and which clients an engine lets in.

ZeroMQ's CURVE mechanism encrypts and authenticates: a client must know the engine's public key, and the engine must
know the client's. Files are pyzmq's certificates (`zmq.auth`): ``NAME.key`` holds the public key and may be given away,
``NAME.key_secret`` holds both and may not. `m2m keys` makes them.
"""

import contextlib
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from rt_engine.errors import SettingsError
from rt_engine.settings import Publish

PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"
MAX_KEY_FILE_BYTES = 64 * 1024
KEY_CHARACTERS = 40
"""Of a CURVE key in Z85, the encoding in the files."""


@dataclass(frozen=True)
class CurveKeys:
    """An engine's own key pair, and the folder of those it lets in.

    Attributes
    ----------
    public, secret
        The engine's keys, Z85.
    clients
        Folder with one ``NAME.key`` per client. It is read whenever somebody connects: a client is let in by putting
        its file there and kept out by taking it away, without a new start; who is connected stays so.
    """

    public: bytes
    secret: bytes = field(repr=False)
    clients: Path

    def knows(self, client: bytes) -> bool:
        """Return whether a client with this public key (Z85) is let in."""
        return client in _public_keys_in(self.clients)


@dataclass(frozen=True)
class ClientKeys:
    """A client's own key pair, and the engine that it expects.

    Attributes
    ----------
    public, secret
        The client's keys, Z85.
    server
        The engine's public key, Z85.
    """

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """Let a socket speak CURVE; before it connects."""
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret
        socket.curve_serverkey = self.server


def make_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair: two files that only their owner can read, the public one to be given away.

    Parameters
    ----------
    folder
        Where to; made if it is not there, for its owner alone.
    name
        Of the files; letters, digits, ``-``, ``_`` and ``.``.

    Returns
    -------
    public, secret
        The files.

    Raises
    ------
    SettingsError
        If the name is none, one of the files is there already (a key is never replaced), or they cannot be written.
    """
    if not name or name.startswith(".") or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        raise SettingsError(f"{name!r} is no name for a key; expected letters, digits, '-', '_' and '.'")
    _require_curve()
    public, secret = folder / f"{name}{PUBLIC_SUFFIX}", folder / f"{name}{SECRET_SUFFIX}"
    for path in (public, secret):
        if path.exists():
            raise SettingsError(f"{path} is there already, and a key is never replaced: take another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # In a folder that only we can enter, so that nobody can open the secret before it gets its mode.
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=folder) as private:
            made = [Path(path) for path in zmq.auth.create_certificates(private, name)]
            for path, place in zip(made, (public, secret), strict=True):
                path.chmod(0o600)
                _place(path, place)
    except FileExistsError as error:
        raise SettingsError(f"{error.filename2} is there already, and a key is never replaced") from error
    except OSError as error:
        raise SettingsError(f"cannot write keys to {folder}: {error.strerror or error}") from error
    return public, secret


def server_keys(publish: Publish) -> CurveKeys | None:
    """Read an engine's keys as the settings name them.

    Returns
    -------
    CurveKeys or None
        None if the settings name no key: then only this machine can reach the engine.

    Raises
    ------
    SettingsError
        If a file cannot be read or holds no key, others may read the secret one, or no client is let in.
    """
    if not publish.curve_secret:
        if publish.curve_clients:
            raise SettingsError(
                "publish.curve_clients names who is let in, but publish.curve_secret names no key of the engine's own: "
                "make one with `m2m keys`"
            )
        return None
    if not publish.curve_clients:
        raise SettingsError(
            "publish.curve_secret needs publish.curve_clients: the folder with the public keys (NAME.key) of those who "
            "are let in"
        )
    _require_curve()
    public, secret = _read_pair(Path(publish.curve_secret))
    clients = Path(publish.curve_clients)
    if not clients.is_dir():
        raise SettingsError(f"publish.curve_clients: there is no folder {clients}")
    if os.name == "posix" and stat.S_IMODE(clients.stat().st_mode) & stat.S_IWOTH:
        raise SettingsError(f"every user may let others in: {clients} is theirs to write to; chmod o-w {clients}")
    keys = CurveKeys(public, secret, clients)
    for path in _key_files(clients):
        _read(path)  # a file that is no key is an error now, and not a client that wonders later
    if not _public_keys_in(clients):
        raise SettingsError(
            f"the folder {clients} holds no public key (NAME{PUBLIC_SUFFIX}), so nobody would be let in: put each "
            "client's there"
        )
    return keys


def client_keys(own: Path | None, server: Path | None) -> ClientKeys | None:
    """Read a client's key pair and the engine's public key.

    Parameters
    ----------
    own
        The client's secret file (``NAME.key_secret``), or None.
    server
        The engine's public file (``NAME.key``), or None.

    Returns
    -------
    ClientKeys or None
        None if neither is named.

    Raises
    ------
    SettingsError
        If only one is named, a file cannot be read or holds no key, or others may read the secret one.
    """
    if own is None and server is None:
        return None
    if own is None or server is None:
        raise SettingsError(
            "an engine with CURVE keys needs two files: your own secret one (--key NAME.key_secret) and the engine's "
            "public one (--server-key NAME.key)"
        )
    _require_curve()
    return ClientKeys(*_read_pair(own), _read(server)[0])


def _read_pair(path: Path) -> tuple[bytes, bytes]:
    public, secret = _read(path)
    if secret is None:
        raise SettingsError(f"{path} holds a public key only; expected the file NAME{SECRET_SUFFIX} made with it")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError(f"other users may read the secret key {path}; make it yours alone: chmod 600 {path}")
    if zmq.curve_public(secret) != public:
        raise SettingsError(f"the two keys in {path} do not belong together; make a pair anew with `m2m keys`")
    return public, secret


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise SettingsError(f"{path} is no key file: it is larger than {MAX_KEY_FILE_BYTES} bytes")
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise SettingsError(f"cannot read the key file {path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise SettingsError(f"{path} holds no CURVE key; expected a file made by `m2m keys`") from error
    for key in (public, secret):
        if key is None:
            continue
        if len(key) != KEY_CHARACTERS or len(_decoded(key)) != 32:
            raise SettingsError(f"{path} holds a damaged key; expected {KEY_CHARACTERS} characters of Z85")
    return public, secret


def _decoded(key: bytes) -> bytes:
    try:
        return z85.decode(key)
    except (KeyError, ValueError, struct.error):
        return b""


def _key_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.iterdir() if path.suffix == PUBLIC_SUFFIX and path.is_file())


def _public_keys_in(folder: Path) -> set[bytes]:
    keys = set()
    try:
        for path in _key_files(folder):
            with contextlib.suppress(SettingsError):  # what cannot be read lets nobody in
                keys.add(_read(path)[0])
    except OSError:  # the folder was taken away: nobody is let in
        return set()
    return keys


def _place(made: Path, place: Path) -> None:
    """Give a file its name unless the name is taken: a link fails where a rename would replace."""
    try:
        os.link(made, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with place.open("xb") as file:
            os.chmod(place, 0o600)
            file.write(made.read_bytes())


def _require_curve() -> None:
    if not zmq.has("curve"):
        raise SettingsError("this ZeroMQ is built without CURVE; install pyzmq from its wheel, which has it")
