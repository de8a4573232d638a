"""Cases about the client side: what a server sends on, and to whom."""
