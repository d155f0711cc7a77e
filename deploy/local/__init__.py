"""The whole system on one machine, with its embedded parts."""
