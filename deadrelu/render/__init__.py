"""The output formats: one module each, with `render(report) -> str`. Nothing here writes or prints."""
