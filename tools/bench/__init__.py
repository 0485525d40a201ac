"""What `m2m bench` measures."""
