"""The peers that Reelway is measured beside, and the measurements."""
