"""Takes bytes in."""
