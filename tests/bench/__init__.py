"""Benchmarks: scripts that print figures; nothing here is an assertion."""
