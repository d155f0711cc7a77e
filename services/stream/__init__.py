"""Gives bytes out."""
