"""Readers of what laboratories have: head models, labels, fields, coil poses, amplitudes."""
