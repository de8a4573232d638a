"""Real mail servers as targets of fault injection, each in an overlay root of its own."""
