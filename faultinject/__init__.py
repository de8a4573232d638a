"""Fault injection for mail servers; never imports refmta."""
