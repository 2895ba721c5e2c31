"""Every limit of the HTTP API, each with its reason; a number that is a guess says so."""

WAIT_S_MAX = 30  # most proxies give a silent request a minute
WAITS_MAX = 2000  # requests waiting in one process; with one query a tick a guess at 50 ms of it
TICK_S = 0.02  # between two looks at everything waited for: a tenth of a human's "at once"

QUESTIONS_MAX = 100  # in one query of reads: 1.5 ms of it, and their answers' decoding

CONNECTIONS_MAX = 4  # of one process: each kind of question has one query under way at a time
ACQUIRE_S_MAX = 1.0  # for a free connection, connecting included; then it is overload or outage
STATEMENT_S_MAX = 2.0  # point reads take a millisecond
RETRY_AFTER_S = 1

TOKEN_CHARACTERS_MAX = 8192  # the header space that common servers give; real ones have 1 to 2 KB
TOKENS_REMEMBERED_MAX = 4096  # of 1 to 2 KB each
TOKEN_REMEMBERED_S_MAX = 60.0  # how long a withdrawn key may go on
CLOCK_SKEW_S = 10  # between us and the issuer: ample for hosts that keep time by NTP

REQUEST_ID_CHARACTERS_MAX = 128  # a trace id has 32, a guess at what proxies make

POSITION_LANE_MAX = 2**31 - 1  # what a lane's column holds
POSITION_OFFSET_MAX = 2**63 - 1  # what Kafka counts to
