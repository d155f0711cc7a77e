"""What services share; it imports no service."""
