"""Devices as LSL streams; the simulated subject is one of them."""
