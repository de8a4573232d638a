"""Cases about servers, and about what they deliver: a file per RFC, or part of one."""
