"""How Reelway is deployed."""
