"""What the dialects have in common, without any dialect."""
