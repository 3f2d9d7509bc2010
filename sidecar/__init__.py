"""litestream-sidecar: can this SQLite database be brought back, right now, and may we migrate?"""

__version__ = "0.1.0"
