"""The live window: a separate process that only subscribes."""
