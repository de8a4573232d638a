"""The life of a message, with crash and restart as ordinary actions."""
