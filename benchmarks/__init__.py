"""Measured claims: each prints a table and writes JSON."""
