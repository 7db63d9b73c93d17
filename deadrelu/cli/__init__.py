"""The command line: options in, report out, exceptions to exit codes."""
