"""Speech to text: a media file in, words with their times out. Start reading at `transcribe.py`."""
