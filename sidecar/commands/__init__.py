"""One command a module: each takes options and `echo`, and returns an exit code."""
