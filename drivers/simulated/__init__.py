"""The simulated subject: a coil, a motor cortex and 15 muscles that feed real LSL streams."""
