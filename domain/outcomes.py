"""The closed set of answers a command can get (CONTRACT.md 5).

Outcomes and reasons are part of the contract: they may be added to, never renamed.
"""

from typing import Literal, get_args

Outcome = Literal["applied", "merged", "unchanged", "accepted", "duplicate", "rejected"]
Reason = Literal[
    "version_conflict",
    "not_found",
    "already_exists",
    "invalid",
    "id_reused",
    "too_old",
    "too_many",
    "erased",
    "operation_closed",
    "not_allowed",
]
ItemOutcome = Literal["applied", "unchanged", "conflict", "not_found", "invalid", "cancelled"]
"""What became of one candidate of a bulk operation."""
FailedReason = Literal["version_conflict", "not_found", "invalid"]
OperationStatus = Literal["running", "paused", "completed", "cancelled"]
DeadLetterCode = Literal[
    "empty",
    "not_cloudevents",
    "not_json",
    "unknown_type",
    "no_identity",
    "too_large",
    "apply_failed",
]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
REASONS: tuple[Reason, ...] = get_args(Reason)
ITEM_OUTCOMES: tuple[ItemOutcome, ...] = get_args(ItemOutcome)
DEAD_LETTER_CODES: tuple[DeadLetterCode, ...] = get_args(DeadLetterCode)
