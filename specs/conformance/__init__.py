"""Black-box conformance of any SMTP server: cases by RFC section, and who tells what came of them.

It shares no code with what it judges, and speaks raw octets.
"""
