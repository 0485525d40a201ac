"""The demo: simulated subject, engine and window as separate processes, and what came of it against the truth."""
