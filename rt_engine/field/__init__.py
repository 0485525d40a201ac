"""The electric field: coil, closed-form sphere, and the files that subjects and stimulations are kept in."""
