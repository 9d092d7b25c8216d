"""Turn the body of a queue message into facts.

This is where bytes of strangers come in: whatever they hold, the answer is facts, or that they are of no interest,
or `MalformedMessageError`, and nothing else.
"""

from crrmon.domain.events import cloudtrail, s3_event, s3_notification
from crrmon.domain.events.envelopes import Irrelevant, Part, Shape, unwrap, utf8
from crrmon.domain.events.facts import Decoded, Fact


def decode(body: str | bytes) -> Decoded:
    """Decode one message, whatever envelopes it came in.

    A message of several records is taken as a whole: if one part of it is malformed, so is the message. It cannot
    be acknowledged in part, and is left for the dead-letter queue, where somebody can look at all of it.

    Returns:
        All facts in the order of the message, and the kinds (`envelopes.Irrelevant`) of everything else in it.

    Raises:
        MalformedMessageError: nothing known fits. Its text says what is wrong and where, without quoting the body.
    """
    data = utf8(body)
    if (told := cloudtrail.read_event(data)) is not None:
        return Decoded((), (told,)) if isinstance(told, Irrelevant) else Decoded((told,))
    return decode_anyhow(data)


def decode_anyhow(data: bytes) -> Decoded:
    """Decode one message by taking off one envelope after the other; otherwise as `decode`.

    Args:
        data: the message, which is UTF-8.
    """
    facts: list[Fact] = []
    irrelevant: list[str] = []
    for part in unwrap(data):
        read = part if isinstance(part, Irrelevant) else _read(part)
        if isinstance(read, Irrelevant):
            irrelevant.append(read)
        else:
            facts.append(read)
    return Decoded(tuple(facts), tuple(irrelevant))


def _read(part: Part) -> Fact | Irrelevant:
    """Give a part to its reader."""
    match part.shape:
        case Shape.CLOUDTRAIL:
            return cloudtrail.read(part)
        case Shape.S3_EVENT:
            return s3_event.read(part)
        case Shape.S3_NOTIFICATION:
            return s3_notification.read(part)
