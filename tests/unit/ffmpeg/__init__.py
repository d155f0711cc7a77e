"""The ffmpeg service's pure parts."""
