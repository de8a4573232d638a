"""The page of a campaign: one HTML file that needs nothing else, no network and no server.

    records --> document (what it shows, plain values) --> page (with pictures, styles, a program)

Rules a reader may rely on
- What servers have said is data: it lies in a block that no browser executes, and it is put into
  the page as text, never as markup.  The page's own policy (CSP) allows no other program than the
  two whose digests it names, and no connection at all.
- Everything that it shows is in `document`; the program on the page filters, opens and scrolls.
"""
