"""What `refmta-conform` can be asked to do, a file each."""
