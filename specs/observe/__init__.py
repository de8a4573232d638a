"""How a running system is looked at: from outside, as root, by what the kernel says of it.

Nothing here knows refmta, or any other mail server; nothing here asks the observed for help.
"""
