"""The HTTP gateway: parse, one dialect-neutral operation, render."""
