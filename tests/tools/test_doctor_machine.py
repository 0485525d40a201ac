"""`m2m doctor` on computers that are not this one: networks, VPNs, timers, rights, GPUs."""

import os
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from rt_engine.onnx_session import CPU, CUDA
from tools import doctor_machine, doctor_network
from tools.doctor_check import Check, Level

Address = namedtuple("Address", "family address")
State = namedtuple("State", "isup")


def networks(**interfaces: str) -> list[Check]:
    addresses = {name: [Address(socket.AF_INET, address)] for name, address in interfaces.items()}
    addresses["lo"] = [Address(socket.AF_INET, "127.0.0.1")]
    addresses["down0"] = [Address(socket.AF_INET, "10.9.9.9")]
    addresses["six0"] = [Address(socket.AF_INET6, "fe80::1")]
    states = {name: State(name != "down0") for name in addresses}
    return doctor_network.check_interfaces(addresses, states)


def test_one_network_is_well() -> None:
    interfaces, vpn = networks(eth0="192.168.1.7", docker0="172.17.0.1")
    assert (interfaces.level, vpn.level) == (Level.OK, Level.OK)
    assert "eth0 192.168.1.7" in interfaces.text
    assert "docker0" in interfaces.text


def test_no_network_and_several_are_told() -> None:
    alone, _ = networks()
    assert alone.level is Level.WARN
    assert "only its own streams" in alone.text
    several, _ = networks(eth0="192.168.1.7", wlan0="10.0.0.3")
    assert several.level is Level.WARN
    assert "2 networks: eth0 192.168.1.7, wlan0 10.0.0.3" in several.text
    assert "KnownPeers" in several.advice


@pytest.mark.parametrize("name", ["tun0", "wg0", "utun4", "tailscale0", "Cisco AnyConnect", "OpenVPN TAP-Windows6"])
def test_a_vpn_is_named(name: str) -> None:
    interfaces, vpn = networks(**{"eth0": "192.168.1.7", name: "10.8.0.2"})
    assert (interfaces.level, vpn.level) == (Level.OK, Level.WARN)
    assert f"{name} 10.8.0.2" in vpn.text
    assert "multicast" in vpn.advice


def test_a_configuration_that_hides_streams_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lsl_api.cfg"
    monkeypatch.setenv("LSLAPICFG", str(path))

    def scope(text: str) -> Check:
        path.write_text(text)
        return {check.name: check for check in doctor_network.check_lsl()}["LSL scope"]

    assert scope("[multicast]\nResolveScope = machine\n").level is Level.WARN
    known = scope("; a comment\n[lab]\nKnownPeers = {10.0.0.5, emg-pc}\n")
    assert (known.level, "10.0.0.5, emg-pc" in known.text) == (Level.OK, True)
    assert scope("this is no configuration").level is Level.OK, "liblsl goes by its defaults then"


def test_ports_that_are_used_up_are_told() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        check = doctor_network.check_lsl_ports({"ports.baseport": str(port), "ports.portrange": "1"})
    assert check.level is Level.WARN
    assert check.text.startswith(f"0 of TCP {port} to {port}")


def test_timers_are_judged_by_what_a_sleep_takes() -> None:
    good = doctor_machine.judge_timer(1e-7, [0.00106] * 100)
    assert good.level is Level.OK
    assert "takes 1.06 ms" in good.text
    coarse = doctor_machine.judge_timer(1e-7, [0.0156] * 100)
    assert (coarse.level, "coarse" in coarse.advice) == (Level.WARN, True)
    held_up = doctor_machine.judge_timer(1e-7, [0.0011] * 90 + [0.030] * 10)
    assert (held_up.level, "other programs" in held_up.advice) == (Level.WARN, True)
    assert doctor_machine.judge_timer(1e-3, [0.0011] * 100).level is Level.WARN
    assert "LSL's clock steps by" in doctor_machine.check_timer().text


def test_the_right_to_go_first_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(doctor_machine, "_nice_limit", lambda: 0)
    refused = doctor_machine.check_priority()
    assert refused.level is Level.WARN
    assert "nice" in refused.advice or os.name != "posix"
    monkeypatch.setattr(doctor_machine, "_nice_limit", lambda: -15)
    assert doctor_machine.check_priority().level is Level.OK
    monkeypatch.delattr(os, "setpriority", raising=False)
    assert doctor_machine.check_priority().level is Level.OK


def test_the_gpu_is_what_the_model_really_got(monkeypatch: pytest.MonkeyPatch) -> None:
    notice = "CUDA cannot be used here (libcublas.so not found); the model runs on the CPU"
    assert doctor_machine.check_gpu(CUDA, None, "auto") == Check("GPU", Level.OK, "the model runs on CUDA")
    assert doctor_machine.check_gpu(CPU, notice, "auto") == Check("GPU", Level.OK, notice), "the CPU serves as well"
    asked = doctor_machine.check_gpu(CPU, notice, "cuda")
    assert (asked.level, "libcublas.so" in asked.text) == (Level.WARN, True)
    assert "not asked for" in doctor_machine.check_gpu(CPU, None, "cpu").text
    monkeypatch.setattr(doctor_machine.ort, "get_available_providers", lambda: [CPU])
    assert "without CUDA" in doctor_machine.check_gpu("", None, "auto").text
