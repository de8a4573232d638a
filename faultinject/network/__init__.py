"""Faults of the network: hostile, silent and lying peers."""
