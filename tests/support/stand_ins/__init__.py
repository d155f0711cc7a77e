"""Small processes in the place of the real ones, for tests of whoever starts and stops them."""
