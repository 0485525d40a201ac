"""One thin file per `m2m` command."""
