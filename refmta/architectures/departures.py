"""Where a composition is not what it is named after: told beside each page, and in no process.

The roles are the same in all of them, so that what differs between two architectures is their
architecture.  That is bought by leaving out, or doing otherwise, what the original does; whoever
compares a figure of ours with one of the original's should know what.  A row says what the original
does, and what is done here; why, where it isn't plain.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Departure(NamedTuple):
    """there: what the original does.  here: what is done instead."""

    there: str
    here: str


#: What holds of all of them: the originals differ in these things, and ours do not.
COMMON: Final = (
    Departure(
        "A C program for each job, executed.",
        "One interpreter; processes that serve once or often are forked from a parent that has "
        "loaded everything and served nobody. `refmta-spec claims` prints what a process costs.",
    ),
    Departure(
        "The first process starts the others, and keeps root (`sendmail`, `qmail-start`, "
        "`master`, `mcp`).",
        "The spawner starts them and keeps root (with the layer of capabilities, three of them); "
        "a supervisor without privilege tells it what to start.",
    ),
    Departure(
        "Set-id programs put mail into the queue for users of the machine (`sendmail -bm`, "
        "`qmail-queue`, `postdrop`).",
        "Mail comes in by SMTP only, and no_new_privs is on for the whole system, so that no "
        "program gains anything by its file.",
    ),
    Departure(
        "Users' files say where their mail goes (`.forward`, `.qmail`), also into programs.",
        "No mail is given to a program, and no file of a user's is read.",
    ),
    Departure(
        "Aliases, recipients and routes are found by each in its own way and at its own time.",
        "One role finds them, when a recipient is named and again before delivery; who is unknown "
        "is refused at RCPT.",
    ),
    Departure(
        "Schedules differ: the queue's interval, the square of a message's age, doubling pauses.",
        "Pauses that double between two bounds, per message and per destination.",
    ),
    Departure(
        "Some of them: TLS, milters, tables of spam, greylisting, rate limits.",
        "None of these.",
    ),
    Departure(
        "A configuration language of its own, and the system's log.",
        "One TOML file, and JSON lines.",
    ),
)

_POSTFIX: Final = (
    Departure(
        "master makes sockets by name in `private/` and `public/`, which all of its user can "
        "connect to.",
        "Socket pairs, handed to the two ends: a process talks to whom the table names, and can't "
        "reach the others by name.",
    ),
    Departure(
        "A jail is entered as root, before root is given up.",
        "A jail is entered in a user namespace, whose capabilities are given up.",
    ),
    Departure(
        "local: a pool; each process delivers one message to one user at a time.",
        "local: one resident process for all; each operation on the disk with the effective ids of "
        "the user whose mail it is.",
    ),
    Departure(
        "local expands aliases; mailboxes are mbox files unless it is told otherwise.",
        "Aliases are expanded before; mailboxes are Maildirs.",
    ),
    Departure(
        "cleanup rewrites headers, and hears from pickup, smtpd, local, bounce and qmqpd.",
        "cleanup writes what smtpd and bounce send it; only envelopes are rewritten, by rewrite.",
    ),
    Departure(
        "A done recipient is marked in place: one octet of its record.",
        "A mark is appended, with a digest of its own; and the end record has one of the whole.",
    ),
    Departure(
        "The queues `maildrop`, `hold`, `defer`, `bounce`, `trace`; directories hashed.",
        "`incoming`, `active`, `deferred`, `corrupt`, not hashed; why a message waits is a mark "
        "in it.",
    ),
    Departure(
        "anvil counts clients, verify asks for addresses, scache keeps connections, showq, tlsmgr, "
        "virtual, pipe, error.",
        "None of these processes; with a shared listening socket nobody bounds the connections of "
        "one client.",
    ),
)

#: Architecture -> what it departs from.
DEPARTURES: Final = {
    "refmta": (),
    "sendmail": (
        Departure(
            "The daemon listens, and forks a process for each connection.",
            "A pool of one use per process: a parent that accepts, a template that forks. Two "
            "more processes than there, neither of which handles mail.",
        ),
        Departure(
            "Delivery in the background forks once more; the session goes on.",
            "The same process goes on with both: what runs trio must not fork. It lives until "
            "both are over.",
        ),
        Departure(
            "A queue runner is forked for each round.",
            "One resident runner.",
        ),
        Departure(
            "Rewriting rules and mailers are programmed in `sendmail.cf`.",
            "Tables of addresses, and two ways out: mailboxes and SMTP.",
        ),
        Departure(
            "`mail.local` is executed with root's rights, and becomes the user.",
            "Mailboxes are written by the same process, with the user's effective ids.",
        ),
        Departure(
            "`mail.local` truncates a mailbox back where a write failed; what a crash left of an "
            "append stays.",
            "A note beside the mailbox says where the append began, and whoever gets the lock next "
            "truncates back to it.",
        ),
        Departure(
            "`xf` files hold a transcript of the session for the report.",
            "What the report needs is in the control file.",
        ),
        Departure(
            "By its load it refuses connections, or only queues.",
            "By its number of processes it has less patience with clients.",
        ),
        Departure(
            "Since 8.12 a second instance of lower privilege takes mail from users of the machine.",
            "Not there.",
        ),
    ),
    "qmail": (
        Departure(
            "Eight identities; of them `alias` (a user's), `qmaill` (logs) and `qmailp` (looks "
            "users up) have no counterpart here.",
            "qmaild, qmailq, qmails, qmailr and root, and the recipients.",
        ),
        Departure(
            "qmail-queue is set-id: whoever executes it is heard.",
            "A pool of its user, called by smtpd and send: nobody else can call it.",
        ),
        Departure(
            "qmail-smtpd knows the domains only; who is unknown is found out later, and reported "
            "to a sender who may be forged.",
            "smtpd asks for each recipient, and refuses. It reads the user database for that.",
        ),
        Departure(
            "Two pipes into qmail-queue, an environment, and its exit code.",
            "One stream in their order: environment, envelope, content; behind the code a queue "
            "id (`refmta/wire/qmail.py`).",
        ),
        Departure(
            "A spawner is told a file's number, opens it, and checks its owner.",
            "It is handed the open file, and does not see the queue.",
        ),
        Departure(
            "A message is named by its inode's number; directories are hashed by it.",
            "A message is named by its queue id, and no directory is hashed.",
        ),
        Departure(
            "qmail-queue pulls a trigger, one octet into a fifo that everybody may write to.",
            "It tells send on a channel; send looks every 1500 s for what nobody told.",
        ),
        Departure(
            "What failed is written into bounce/ and struck out at once.",
            "It is struck out when its report is in the queue, so that a crash forgets none.",
        ),
        Departure(
            "qmail-clean looks for what is left over in pid/, qmail-send in mess/, now and then.",
            "The queue's recovery looks into all of them, when send starts.",
        ),
        Departure(
            "At most ten local deliveries at once, and twenty remote ones.",
            "As configured: `limits.agents`, `remote.max_workers`.",
        ),
    ),
    "postfix": _POSTFIX,
    "postfix-unjailed": _POSTFIX,
    "sendmailx": (
        Departure(
            "A module is a process with many threads, and there may be several of one kind.",
            "A process with many tasks, one of each kind.",
        ),
        Departure(
            "smar asks the name servers, for all.",
            "smar finds routes and recipients; smtpc asks for MX records and addresses itself.",
        ),
        Departure(
            "smtpc opens content in the database, by its name.",
            "qmgr hands it the open file; smtpc can't read the database.",
        ),
        Departure(
            "qmgr writes the content of its reports into the database.",
            "Its reports go to smtps, as mail does. So while smtps is away, or when the system "
            "stops, a report waits for the next start.",
        ),
        Departure(
            "Local mail goes by LMTP to a program of somebody else's.",
            "To an agent of ours for each recipient, started on demand.",
        ),
        Departure(
            "A Berkeley database, and formats of its own.",
            "A log with lengths and checksums, and a file for each message that rests.",
        ),
        Departure(
            "Rules for each stage of a session, and policy servers outside.",
            "Not there: the paper's part about spam is not about these processes.",
        ),
    ),
}
