"""What an SMTP client may send, and what it may claim of it, judged over transcripts."""
