"""Two faults of aiokafka, put right in the process that uses it.

For some milliseconds after a commit the broker still writes its markers and answers that
transactions are concurrent; aiokafka then waits 20 ms before it asks again, which is what a
command behind another one, or behind a chunk of a bulk operation, would feel.

Where asyncio drops what is written to a connection that has just broken, uvloop raises a
RuntimeError, for which aiokafka is not prepared: the task that refreshes its metadata ends, and
that client never again finds a leader (aiokafka issue 1038).
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import sender

_ASK_AGAIN_SECONDS = 0.003
_send = AIOKafkaConnection.send


def repair_aiokafka() -> None:
    """From now on, in this process."""
    if not hasattr(sender, "BACKOFF_OVERRIDE"):
        raise RuntimeError("this aiokafka waits in another place: look at producer/repairs.py")
    sender.BACKOFF_OVERRIDE = _ASK_AGAIN_SECONDS
    AIOKafkaConnection.send = send_or_broken


def send_or_broken(connection: AIOKafkaConnection, *request: Any, **options: Any) -> Any:
    """`send`, for which a closed transport is a broken connection like any other."""
    try:
        return _send(connection, *request, **options)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(str(error)) from error
