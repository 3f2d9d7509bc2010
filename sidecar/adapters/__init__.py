"""The touching floor: one technology a module. Adapters never import each other, `process` excepted."""
