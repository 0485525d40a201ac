"""The documentation's figures, one file each; `python -m tools.docs_figures` makes them all."""
