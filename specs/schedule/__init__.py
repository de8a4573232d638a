"""Scheduling of remote mail by destination: fair, bounded, and over within a message's lifetime."""
