"""Executable claims of the patterns: predicates over observations of a running system.

One module per pattern, with the name of the pattern.  Each has CLAIMS, and EXPERIMENTS if its
claims need more than everybody's observation.  Nothing here imports what it judges.
"""
