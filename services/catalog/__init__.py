"""What exists, whose it is, who may see it."""
