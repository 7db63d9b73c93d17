"""From bytes on disk to a program, running nothing that nobody trusted."""
