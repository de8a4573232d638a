"""What `refmta-conform` can be asked to do, a file each; and how each of them ends (`endings`)."""
