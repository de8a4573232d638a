"""Reports: who is told (RFC 5321 6.1), and what a report is (RFC 6522, 3464, 3834), as oracles."""
