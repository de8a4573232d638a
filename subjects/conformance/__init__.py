"""Servers set up for the conformance suite: each with all that it can do switched on, and its
configuration shown beside its results, so that nobody is blamed for ours.
"""
