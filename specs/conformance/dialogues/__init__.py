"""Dialogues to be replayed: the scenarios of RFC 5321, appendix D."""
