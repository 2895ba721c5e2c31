"""Every limit of the HTTP API, each with its reason; a number that is a guess says so."""

WAIT_S_MAX = 30  # most proxies give a silent request a minute
WAITS_MAX = 2000  # requests waiting in one process; with one query a tick a guess at 50 ms of it
TICK_S = 0.02  # between two looks at everything waited for: a tenth of a human's "at once"

STREAMS_MAX = 500  # of server-sent events in one process; each costs a coroutine and a socket
STREAM_TICK_S = 0.5  # between two looks at an operation: a chunk takes some 40 ms
STREAM_BEAT_S = 15.0  # of silence: most proxies cut after 60
STREAM_S_MAX = 900.0  # then the client comes back with its token, perhaps to a younger process

OPERATIONS_PAGE_MAX = 200  # as for candidates, CONTRACT.md 6
OPERATIONS_PAGE = 50
ITEMS_PAGE_MAX = 1000  # of 100 bytes each

QUESTIONS_MAX = 100  # in one query of reads: 1.5 ms of it, and their answers' decoding

CONNECTIONS_MAX = (
    12  # of one process: `LISTS_MAX`, and each kind of question has one query at a time
)
ACQUIRE_S_MAX = 1.0  # for a free connection, connecting included; then it is overload or outage
STATEMENT_S_MAX = 2.0  # point reads take a millisecond
PATIENCE_S = 0.5  # then a look tells whether the server is slow or frozen: lists take 0.1 at most
LOOK_S_MAX = 0.5  # for a new connection, which takes 10 ms: a guess at a server under full load
LETTERS_S_MAX = 5.0  # for each statement about dead letters: a guess at a long queue's page
RETRY_AFTER_S = 1

TOKEN_CHARACTERS_MAX = 8192  # the header space that common servers give; real ones have 1 to 2 KB
TOKENS_REMEMBERED_MAX = 4096  # of 1 to 2 KB each
TOKEN_REMEMBERED_S_MAX = 60.0  # how long a withdrawn key may go on
CLOCK_SKEW_S = 10  # between us and the issuer: ample for hosts that keep time by NTP

WRITE_WAIT_S = 10  # what CONTRACT.md 6 promises to who does not prefer otherwise
BODY_BYTES_MAX = (
    256 * 1024
)  # of one candidate: the largest valid one has 30 KiB, escaped thrice that
BULK_BODY_BYTES_MAX = 3 * 1024 * 1024  # 20,000 ids with versions are 1.2 MB; a command takes 4 MiB
BODY_S_MAX = 10.0  # for a body to arrive: 300 KB/s for the largest
SEND_S_MAX = 5.0  # for Kafka's acknowledgement, which takes milliseconds; a guess at an election
SENDER_CHECK_S = 1.0  # between two looks at Kafka: how long an outage goes unnoticed
SENDS_MAX = 1000  # under way in one process: a second of what one process can take

CORS_PREFLIGHT_S = 600  # what browsers remember of a preflight at most is an hour or two

REQUEST_ID_CHARACTERS_MAX = 128  # a trace id has 32, a guess at what proxies make

KEYS_FRESH_S = 600.0  # a withdrawn key goes on so long, and what it signed a minute more
KEYS_STALE_S_MAX = 24 * 3600.0  # known keys outlive an outage of the issuer by a day
KEYS_RETRY_S = 10.0  # between two fetches, whatever tokens name: a new key works that soon
KEYS_FETCH_S_MAX = 3.0  # discovery and keys together; requests wait for the first fetch only
KEYS_BYTES_MAX = 256 * 1024  # common issuers serve 2 to 20 KB
KEYS_MAX = 100  # common issuers have 2 to 10

RATE_STORE_S_MAX = 0.25  # in memory it is nothing, in Redis a millisecond; then writes go on

TRACESTATE_CHARACTERS_MAX = 512  # W3C Trace Context 3.3.1.5: what must be passed on at least

POSITION_LANE_MAX = 2**31 - 1  # what a lane's column holds
POSITION_OFFSET_MAX = 2**63 - 1  # what Kafka counts to

PAGE_ROWS_MAX = 200  # CONTRACT.md 6
PAGE_ROWS = 50  # for who names no limit
SET_ROWS_MAX = 2000  # candidates that pass a filter, fetched and sorted: 5 ms
WALK_ROWS_MAX = 10_000  # candidates that one page looks at in an order: 40 to 90 ms
WALK_ATTRIBUTES_MAX = 2500  # the same where attributes are looked into: 16 KiB each at the worst
LISTS_MAX = 4  # lists read at once by one process: they must not starve the reads of a millisecond
TAGS_ASKED_MAX = 20  # more than anybody combines: a guess
ATTRIBUTES_ASKED_MAX = 10  # the same
ATTRIBUTE_CHARACTERS_MAX = 200  # of a name and of a value that is asked for: a guess
QUERY_CHARACTERS_MAX = 254  # of `q`: the longest e-mail address
CURSOR_CHARACTERS_MAX = 4096  # a folded name of 200 characters, escaped and sealed, has 1700

CHANGES_PAGE_ROWS = 100  # of a stream or a page without a limit: 1.7 MiB at the worst
CHANGES_WAITS_MAX = 2000  # waiting for changes in one process: a few KB each
JOURNAL_SURE_DAYS = 1  # a cursor this young cannot be older than the journal, kept for months
