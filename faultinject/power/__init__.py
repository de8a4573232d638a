"""Loss of power on a real file system: is everything there that was answered 250?

    refmta-fault power --target refmta --fs ext4,xfs,btrfs --cuts 30

Spool and mailboxes lie on a loop-mounted image; while the load runs, the image is cloned at random
instants (one FICLONE each: `images`); the server is started on each clone, and the ledger judges
what comes out (`check`).  What this can't show is `images.BLIND`.
"""

from faultinject.power.injector import harness

__all__ = ["harness"]
