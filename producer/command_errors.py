"""What can go wrong on a command's way, as typed exceptions.

    CommandError
    ├── CommandNotSent       Kafka has not acknowledged it
    │   ├── CommandTooLarge  it has more bytes than its topic takes
    │   └── TopicMissing     its topic does not exist
    └── ResultUnknown        it was sent, its result is not known
        └── ResultTimeout    ... in the time given

Whatever the error, the command may be sent again as it is: same id, same data, one effect.
A command that breaks a rule is `domain.field_errors.InvalidCommand`.
"""


class CommandError(Exception):
    """A command did not go the whole way."""


class CommandNotSent(CommandError):
    """Kafka has not acknowledged the command. It may have arrived all the same."""


class CommandTooLarge(CommandNotSent):
    """The command has more bytes than its topic takes. It did not leave this process."""


class TopicMissing(CommandNotSent):
    """The commands topic does not exist; `funnel topics apply` creates it."""


class ResultUnknown(CommandError):
    """The command was sent, its result is not known. It may be settled now or later."""


class ResultTimeout(ResultUnknown):
    """The command was not settled in the time given, and may be later.

    To learn the outcome send the command again with the same id: a `duplicate` carries the
    `original` outcome.
    """
