"""What touches the world: LSL inlets, the ZeroMQ publisher, the recorder, recordings, clocks."""
