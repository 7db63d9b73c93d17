"""One file a format, each `render(report) -> str`; nothing here writes or prints."""
