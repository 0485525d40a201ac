"""What stands between LSL streams and this computer: its interfaces, VPNs, liblsl's ports and its configuration."""

import configparser
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import zmq

from rt_engine.edges.bound_socket import BoundSocket
from rt_engine.edges.curve_keys import server_keys
from rt_engine.edges.lsl_library import lsl_library
from rt_engine.errors import M2MError, SettingsError
from rt_engine.settings import Publish
from tools.doctor_check import Check, Level

VPN = re.compile(
    r"^(tun|tap|wg|ppp|utun|ipsec|zt|tailscale|nordlynx|proton|gpd|cscotun)\d*"
    r"|vpn|wireguard|tailscale|zerotier|anyconnect|fortinet|globalprotect|hamachi|tap-windows",
    re.IGNORECASE,
)
"""Names that VPN software gives to its interfaces, on Linux, macOS and Windows."""

INTERNAL = re.compile(
    r"^(docker|br-|veth|virbr|vmnet|vboxnet|lxc|cni|flannel|bridge\d)|hyper-v|vmware|virtualbox|wsl", re.I
)
"""Interfaces to virtual machines and containers on this computer."""

BASE_PORT, PORT_RANGE = 16572, 32
"""Where liblsl's outlets serve, unless its configuration says otherwise (`api_config.cpp`)."""

FEWEST_PORTS = 8
"""Each stream of this computer takes two; a recorder and an engine need none of their own but for their outlets."""


def check_interfaces(
    addresses: Mapping[str, Any] | None = None, states: Mapping[str, Any] | None = None
) -> list[Check]:
    """Look at the network interfaces: LSL's multicast leaves by one of them, and it should be the laboratory's.

    Parameters
    ----------
    addresses, states
        As `psutil.net_if_addrs` and `psutil.net_if_stats` give them; by default this computer's.
    """
    addresses = psutil.net_if_addrs() if addresses is None else addresses
    states = psutil.net_if_stats() if states is None else states
    up: dict[str, str] = {}
    for name, given in addresses.items():
        v4 = [entry.address for entry in given if entry.family == socket.AF_INET]
        if v4 and name in states and states[name].isup and not v4[0].startswith("127."):
            up[name] = v4[0]
    vpns = {name: address for name, address in up.items() if VPN.search(name)}
    inner = {name: address for name, address in up.items() if INTERNAL.search(name) and name not in vpns}
    outer = {name: address for name, address in up.items() if name not in vpns and name not in inner}
    return [_check_outer(outer, inner), _check_vpns(vpns)]


def _check_outer(outer: dict[str, str], inner: dict[str, str]) -> Check:
    listed = ", ".join(f"{name} {address}" for name, address in outer.items())
    beside = f" (and {', '.join(inner)} of this computer's virtual machines)" if inner else ""
    if not outer:
        text = f"no network but this computer's own{beside}: only its own streams can be seen"
        return Check(
            "Interfaces", Level.WARN, text, "connect the amplifier's network, unless all runs on this computer"
        )
    if len(outer) > 1:
        text = f"{len(outer)} networks: {listed}{beside}; streams are looked for on all of them, and each can delay it"
        advice = "leave the networks that the session does not need, or name the others' computers as KnownPeers"
        return Check("Interfaces", Level.WARN, text, advice)
    return Check("Interfaces", Level.OK, f"{listed}{beside}")


def _check_vpns(vpns: dict[str, str]) -> Check:
    if not vpns:
        return Check("VPN", Level.OK, "none seen")
    text = "connected: " + ", ".join(f"{name} {address}" for name, address in vpns.items())
    advice = (
        "leave the VPN during a session: multicast may go there and not to the laboratory's network, and a VPN's "
        "firewall may close LSL's ports"
    )
    return Check("VPN", Level.WARN, text, advice)


def check_lsl() -> list[Check]:
    """Look at liblsl, at where its configuration comes from, and at what that says."""
    library = lsl_library()
    text = f"version {library.version}, protocol {library.protocol}, {library.path}"
    checks = [Check("liblsl", Level.OK, text)]
    source = f"from {library.configuration}" if library.configuration else "liblsl's defaults (no lsl_api.cfg)"
    stated = os.environ.get("LSLAPICFG")
    if stated and not Path(stated).is_file():
        text = f"LSLAPICFG names {stated}, which is not there"
        checks.append(Check("LSL settings", Level.WARN, text, "mend or unset LSLAPICFG"))
    elif library.overlooked:
        others = ", ".join(map(str, library.overlooked))
        advice = "keep one lsl_api.cfg: the one that LSLAPICFG names, or ~/lsl_api/lsl_api.cfg"
        checks.append(Check("LSL settings", Level.WARN, f"{source}; liblsl does not read {others}", advice))
    else:
        checks.append(Check("LSL settings", Level.OK, source))
    told = _configured(library.configuration)
    return [*checks, *_check_configuration(told), check_lsl_ports(told)]


def _configured(path: Path | None) -> dict[str, str]:
    """Return what a configuration file says, as ``section.key`` in lower case; nothing if it cannot be read."""
    if path is None:
        return {}
    parser = configparser.ConfigParser(interpolation=None, strict=False, comment_prefixes=(";", "#"))
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}
    return {f"{name}.{key}".lower(): value for name in parser.sections() for key, value in parser[name].items()}


def _check_configuration(told: dict[str, str]) -> list[Check]:
    checks = []
    session = told.get("lab.sessionid", "default")
    peers = told.get("lab.knownpeers", "").strip("{} ")
    scope = told.get("multicast.resolvescope", "site").lower()
    says = [f"session {session!r}", f"scope {scope!r}", *([f"known peers {peers}"] if peers else [])]
    if session != "default":
        advice = (
            "all computers of a session need the same SessionID in their lsl_api.cfg: streams of others stay unseen"
        )
        checks.append(Check("LSL scope", Level.WARN, ", ".join(says), advice))
    elif scope == "machine":
        advice = "remove ResolveScope: LabRecorder finds nothing in it once there is more than one stream"
        checks.append(Check("LSL scope", Level.WARN, ", ".join(says), advice))
    else:
        checks.append(Check("LSL scope", Level.OK, ", ".join(says)))
    return checks


def check_lsl_ports(told: Mapping[str, str] | None = None) -> Check:
    """See whether liblsl finds ports for streams that are made on this computer.

    Parameters
    ----------
    told
        liblsl's configuration, as ``section.key`` in lower case.
    """
    told = told or {}
    base = _number(told.get("ports.baseport"), BASE_PORT)
    count = _number(told.get("ports.portrange"), PORT_RANGE)
    free = sum(_is_free(port) for port in range(base, base + count))
    text = f"{free} of TCP {base} to {base + count - 1} are free"
    if free < FEWEST_PORTS:
        advice = (
            "end programs that left their streams open, or set a wider PortRange in lsl_api.cfg: beyond it liblsl "
            "takes any port, which a firewall may close"
        )
        return Check("LSL ports", Level.WARN, text, advice)
    return Check("LSL ports", Level.OK, text)


def _number(text: str | None, otherwise: int) -> int:
    try:
        return int(text) if text is not None else otherwise
    except ValueError:
        return otherwise


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def check_addresses(publish: Publish) -> list[Check]:
    """See whether a session could publish, and take requests, where its settings say."""
    checks = [check_address("Publishing", publish.address, "publish.address", publish)]
    if publish.control_address:
        checks.append(check_address("Control", publish.control_address, "publish.control_address", publish))
    else:
        checks.append(Check("Control", Level.OK, "off (publish.control_address is empty)"))
    return checks


def check_address(name: str, address: str, setting: str, publish: Publish) -> Check:
    """Bind an address for a moment, with the session's keys if it has some."""
    kind = zmq.XPUB if setting == "publish.address" else zmq.ROUTER
    try:
        keys = server_keys(publish)
        BoundSocket(kind, address, keys, {zmq.LINGER: 0}, setting).close()
    except SettingsError as error:
        return Check(name, Level.FAIL, str(error), "change the settings: a session would refuse to start")
    except M2MError as error:
        return Check(name, Level.WARN, str(error), "only one engine can use an address: is another session running?")
    return Check(name, Level.OK, f"{address} is free" + (", for clients with a known key" if keys else ""))
