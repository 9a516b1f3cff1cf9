"""Classifying SMTP rejections: is the recipient's address at fault, or the way this service sends mail?

Only the former is permanent. Mail must not be lost over what the operator can fix: a sender that is not allowed, a
relay that requires a login, a policy. The enhanced status code (RFC 3463) decides if it is specific, otherwise common
phrases do. A wrong guess loses an email in one case and retries it for days in the other, so without evidence the
address is not at fault.
"""

import re

_ENHANCED = re.compile(r"(?:^|[\s(#])[45]\.(\d{1,3})\.(\d{1,3})(?![.\d])")
_ADDRESS = re.compile(r"<[^<>]*>|[^\s<>@]+@[^\s<>@]+")  # removed before matching: its words are not a reason
_RECIPIENT_CODES = {(1, 1), (1, 2), (1, 3), (1, 4), (1, 6), (1, 10), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)}
# Conclusive by themselves, even with the status code of an unknown user (mailfront: "553 5.1.1 Sorry, that domain isn't
# in my list of allowed rcpthosts"; Postfix rejects the sender and HELO in the reply to RCPT).
_SENDER = re.compile(
    r"""sender\ (?:address\ rejected|verify|not|denied|rejected|is)|envelope\ sender|badmailfrom|sendasdenied
    |(?:helo|ehlo)\ (?:command|name|rejected)|client\ host|reverse\ (?:dns|host|hostname)|\bptr\b
    |relay(?:ing)?\ (?:access\ )?(?:is\ )?(?:denied|not|prohibited)|(?:unable|not\ allowed|not\ permitted)\ to\ relay
    |not\ relay|rcpthosts|auth(?:entication)?\ (?:is\ )?required|not\ authenticated|log\ ?in\ first|not\ verified""",
    re.IGNORECASE | re.VERBOSE,
)
_MAYBE_SENDER = re.compile(
    r"""\bsender|relay|\bhelo|\behlo|denied|block|black|\bspam|policy|polic(?:y|ies)|prohibit|reputation|unsolicited
    |your\ (?:ip|host|server|domain)|\brbl\b|dnsbl|\bspf\b|dkim|dmarc|\brate\b|\blimit|suspicious|\btls\b|encrypt
    |\bauth""",
    re.IGNORECASE | re.VERBOSE,
)
_RECIPIENT = re.compile(
    r"""no\ such\ (?:user|mailbox|recipient|address|account|person)|no\ mailbox\ here|user\ not\ local|unrouteable
    |unknown\ (?:user|recipient|mailbox|address|local)|invalid\ (?:user|recipient|mailbox|address)
    |(?:user|mailbox|recipient|account|address)\ (?:is\ |has\ been\ |was\ )?
     (?:unknown|not\ found|unavailable|disabled|inactive|invalid|full|closed|suspended|over\ ?quota|does\ ?n[o']t\ exist
     |does\ not\ exist)
    |does(?:n't|\ not)\ have\ an?\ .{0,40}account|over\ ?quota|quota\ exceeded|exceeded\ .{0,20}quota|mailbox\ full""",
    re.IGNORECASE | re.VERBOSE,
)


def is_address_at_fault(code: int, text: str, *, of_recipient: bool) -> bool:
    """Return whether the address is at fault, so that retrying is useless.

    `of_recipient` is true for the reply to RCPT, false for the reply to the message, which is rarely about the address.
    """
    text = _ADDRESS.sub("", text)
    if not 500 <= code < 600 or _SENDER.search(text):
        return False
    enhanced = _ENHANCED.search(text)
    status = (int(enhanced[1]), int(enhanced[2])) if enhanced else (1, 0)
    if status in _RECIPIENT_CODES:
        return True
    may_be_sender_at_fault = bool(_MAYBE_SENDER.search(text))
    if _RECIPIENT.search(text) and not may_be_sender_at_fault:
        return True  # whatever the status code: Yandex replies "550 5.7.1 No such user!"
    return status == (1, 0) and of_recipient and 550 <= code <= 553 and not may_be_sender_at_fault


def is_sender_at_fault(text: str) -> bool:
    """Return whether a temporary rejection is about how this service sends mail."""
    return bool(_SENDER.search(_ADDRESS.sub("", text)))


def status_of(text: str) -> str:
    """Return the enhanced status code in an SMTP reply, or an empty string."""
    enhanced = _ENHANCED.search(text)
    return f"{enhanced[1]}.{enhanced[2]}" if enhanced else ""
