"""Runs ffmpeg for clients and for the system itself."""
