"""`[tool.deadrelu]`: its keys, the file that holds them, and where each path in it points."""
