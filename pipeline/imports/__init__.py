"""Vectors that other people's programs made, as stores."""
