"""Executable specs: they judge, and share no code with what they judge."""
