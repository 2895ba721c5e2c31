"""Every limit of the service, each with its reason; a number that is a guess says so.

Limits that CONTRACT.md promises change only with the contract.
"""

# The candidate, CONTRACT.md 4.
NAME_CHARACTERS_MAX = 200
EMAIL_CHARACTERS_MAX = 254  # RFC 5321 4.5.3.1.3: a forward path of 256 less its angle brackets
PHONE_CHARACTERS_MAX = 64  # E.164 has 15 digits, the rest is room for spacing: a guess
STAGE_LABELS_MAX = 8
STAGE_LABEL_CHARACTERS_MAX = 40
RATING_MAX = 5
SOURCE_CHARACTERS_MAX = 100
TAGS_MAX = 50
TAG_CHARACTERS_MAX = 64
ATTRIBUTES_BYTES_MAX = 16 * 1024  # as compact UTF-8 JSON
ATTRIBUTES_LEVELS_MAX = 5  # the object itself is the first level

# The command, CONTRACT.md 3 and 4.
ACTOR_CHARACTERS_MAX = 200
ERASE_REASON_CHARACTERS_MAX = 500  # a sentence or two, kept for good: a guess
NUMBER_MIN = -(2**63)  # a signed 64-bit integer, the widest that every reader holds
NUMBER_MAX = 2**63 - 1
MEMBERS_MAX = 64  # of an object of ours: none has more than 10, so a bound on errors only
MERGE_VERSIONS_MAX = 1000  # how far back `merge` reads the journal
MERGE_HISTORY_VERSIONS_MAX = 50_000  # so read in one transaction, of all its candidates: some 0.5 s

# Bulk operations, CONTRACT.md 3 and DESIGN.md 3.
BULK_CANDIDATE_IDS_MAX = 20_000
BULK_FILTER_ITEMS_MAX = 200_000
BULK_INLINE_ITEMS_MAX = 1000  # decided within a batch, in one transaction with one result
BULK_CHUNK_ITEMS_MAX = 1000  # a unit of the journal, so as many as an inline bulk
BULK_CHUNK_ITEMS_BESIDE = 64  # while live commands come: some 9 ms that one may have to wait
BULK_CHUNKS_BESIDE = 8  # of those, while no other one comes: some 150 ms, a guess
BULK_CHUNK_ITEMS = 1000  # some 40 ms of transaction that a live batch may have to wait for
FILTER_TEXT_CHARACTERS_MAX = 254  # the longest value there is, an e-mail address
FILTER_VALUES_MAX = 20  # tags and attributes: each is one more condition on every row
BULK_DIFFERENCES_MAX = 100  # what a dry run shows
EXPIRE_ROWS_MAX = 5000  # deleted in one transaction, beside the lane's own: some 50 ms
EXPIRE_STEPS_MAX = 10  # every few seconds: faster than operations can come
BATCH_ITEMS_MAX = 2000  # candidates that one batch may change: several inline bulks are cut apart

# The answer to an invalid command.
ERRORS_MAX = 50  # enough to repair a command at once, and keeps a hostile one's result small
MEMBERS_SEARCHED_MAX = 100_000  # some 50 ms; the largest valid command (a bulk) has 40,000
POINTER_TOKEN_CHARACTERS_MAX = 64  # names are input: longer than any of ours, short in a result
POINTER_TOKENS_MAX = 16  # the deepest valid place has 8 tokens

# The record, CONTRACT.md 2.
COMMAND_ID_CHARACTERS_MAX = 200  # ce_id and ce_source, each
COMMAND_TYPE_CHARACTERS_MAX = 200  # ce_type: notices carry it, escaped, and must fit their topic
COMMAND_RECORD_BYTES_MAX = 4 * 1024 * 1024  # what the commands topic takes

# The path of a batch.
BACKLOG_BATCHES_MAX = 1  # waiting while another is published: hides a Kafka transaction
APPLYING_BATCHES_MAX = 4  # lanes in one process that fill memory at once; one core feeds no more
SPAN_LINKS_MAX = 128  # of a batch's span to its commands' traces: OpenTelemetry's own default
JOURNAL_READ_ROWS_MAX = 2000  # rows read at once after a takeover; more than one unit ever has
ITEMS_DECIDED_AT_ONCE = 50  # ahead, of an operation: some 0.2 ms that the lane waits for
AHEAD_WAIT_SECONDS_MAX = 1.0  # for that, with the lane's row locked; to decide it anew takes 0.05
ROWS_BUILT_AT_ONCE = 16  # events of one lane made in a row: some 0.2 ms that others wait for
OUTPUT_BATCH_BYTES_MAX = 512 * 1024  # a record batch of output; larger records travel alone
APPLY_TRIES_MAX = 5  # deadlocks and guards in a row before it counts as an outage
WHOLE_BATCH_TRIES_MAX = 2  # outages in a row that may be no outage but a batch too slow
BULK_ALONE_TRIES_MAX = 5  # the same for one bulk command, which then is a dead letter: be sure
CHUNK_TURNS_MISSED_MAX = 4  # batches that go before a chunk while their output takes its time
BATCH_BYTES_MAX = 8 * 1024 * 1024  # of records in one transaction, or changes: memory and time
BATCH_UNPACKED_BYTES_MAX = (
    32 * 1024 * 1024
)  # of a compressed batch: 8 of the largest records there are
WATCHDOG_REBUILDS_MAX = 1  # a second client that makes no progress either is a process to restart
JOURNAL_AHEAD_DAYS = 45  # partitions exist so far ahead: survives a month without a restart
JOURNAL_MARGIN_DAYS = 7  # made again when less than this is left
LANE_HELD_SECONDS = 5  # an open transaction before the next command is normal for less: a guess
CONSUMER_RESIDENT_MIB_MAX = 512  # 4 lanes behind on 1 MB records: 120 measured
LANE_RETRY_SECONDS = 30  # a halted lane is looked at again: it goes on once the remedy was applied
ERASE_ROWS_MAX = 500  # looked at in one transaction, some 30 ms measured: nearly every history
ERASE_BYTES_MAX = 8 * 1024 * 1024  # of them: two of the largest records, some 300 ms measured
ERASE_AGAIN_SECONDS = 2  # an erasure that waits for output is looked at again: a guess
ERASE_BUSY_SECONDS = 0.1  # after a sealer was in the way: it takes as long for a range
ERASE_SHARE_MAX = 0.33  # of a lane's time, while erasures are open: live batches get the rest

# What PostgreSQL keeps of dead letters.
DEAD_LETTERS_KEPT_DAYS = 90  # by default: a quarter to find out, and to redrive them
EXPIRED_LETTERS_MAX = 100  # removed at once, of up to 8 MiB each: between two heartbeats
EXPIRE_EVERY_SECONDS = 600  # a letter may stay so much longer

# The chain of the journal's seals.
SEAL_RANGE_ROWS = 10_000  # rows of a link: some 100 ms of PostgreSQL, and how near a fault is told
SEAL_RANGE_BYTES = 64 * 1024 * 1024  # of them, or one row more: some seconds of hashing
SEAL_TRIES_MAX = 20  # a second, for steps of erasures that are in the way
SEAL_RANGE_ROWS_BESIDE = 1000  # while commands come: some 20 ms that one may have to wait
SEAL_SHARE_QUIET = 0.5  # of one core, while nobody sends commands
SEAL_SHARE_BESIDE = 0.1  # while some come: a backlog of 350,000 rows lasts a minute
SEAL_SHARE_BUSY = 0.02  # while lanes are busy: sealing costs them at most 2 %
SEAL_BUSY_ROWS = 1000  # journal rows a second from which on lanes are busy: a guess
SEAL_LIVE_ROWS = 2  # from which on commands come: what notes and operations leave is less
SEAL_LOOK_SECONDS = 0.5  # long enough to tell so few
RETENTION_TRIES_MAX = 60  # for a lock that others hold for long: a minute, then a person decides

# Relations between them.
assert BULK_CHUNK_ITEMS <= BULK_CHUNK_ITEMS_MAX <= BULK_INLINE_ITEMS_MAX  # noqa: S101
assert BULK_INLINE_ITEMS_MAX + 1 < JOURNAL_READ_ROWS_MAX  # noqa: S101  a page holds a unit
assert BULK_INLINE_ITEMS_MAX <= BATCH_ITEMS_MAX  # noqa: S101
assert SEAL_RANGE_ROWS_BESIDE <= SEAL_RANGE_ROWS  # noqa: S101
assert MERGE_VERSIONS_MAX <= MERGE_HISTORY_VERSIONS_MAX  # noqa: S101  one candidate always fits
