"""Architectures as data: compartments, channels, directories; and how a configuration and one of
them become a running system.
"""
