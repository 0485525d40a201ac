"""Settings and the shipped demo subject and model, as data."""
