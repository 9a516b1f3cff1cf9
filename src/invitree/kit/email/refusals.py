"""Whose fault a mail server's refusal is: that of the address it was to go to, or of how this service sends mail.

Only the first is for ever. What the operator can mend (a sender that is not allowed, a relay that asks for a login, a
policy) must not cost mail. By the enhanced status code (RFC 3463) where there is one that tells, else by the phrases
that servers use. A wrong guess in one direction loses a letter, in the other it has the letter tried for days: so what
nothing speaks for is not the address's fault.
"""

import re

_ENHANCED = re.compile(r"(?:^|[\s(#])[45]\.(\d{1,3})\.(\d{1,3})(?![.\d])")
_ADDRESS = re.compile(r"<[^<>]*>|[^\s<>@]+@[^\s<>@]+")  # whose words are nobody's reason
_ADDRESSEE_CODES = {(1, 1), (1, 2), (1, 3), (1, 4), (1, 6), (1, 10), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)}
# What needs no other sign. Some servers give these the status codes of unknown users (mailfront: "553 5.1.1 Sorry, that
# domain isn't in my list of allowed rcpthosts"; Postfix tells about the sender and HELO after RCPT).
_SURELY_OURS = re.compile(
    r"""sender\ (?:address\ rejected|verify|not|denied|rejected|is)|envelope\ sender|badmailfrom|sendasdenied
    |(?:helo|ehlo)\ (?:command|name|rejected)|client\ host|reverse\ (?:dns|host|hostname)|\bptr\b
    |relay(?:ing)?\ (?:access\ )?(?:is\ )?(?:denied|not|prohibited)|(?:unable|not\ allowed|not\ permitted)\ to\ relay
    |not\ relay|rcpthosts|auth(?:entication)?\ (?:is\ )?required|not\ authenticated|log\ ?in\ first|not\ verified""",
    re.IGNORECASE | re.VERBOSE,
)
_PERHAPS_OURS = re.compile(
    r"""\bsender|relay|\bhelo|\behlo|denied|block|black|\bspam|policy|polic(?:y|ies)|prohibit|reputation|unsolicited
    |your\ (?:ip|host|server|domain)|\brbl\b|dnsbl|\bspf\b|dkim|dmarc|\brate\b|\blimit|suspicious|\btls\b|encrypt
    |\bauth""",
    re.IGNORECASE | re.VERBOSE,
)
_ADDRESSEE = re.compile(
    r"""no\ such\ (?:user|mailbox|recipient|address|account|person)|no\ mailbox\ here|user\ not\ local|unrouteable
    |unknown\ (?:user|recipient|mailbox|address|local)|invalid\ (?:user|recipient|mailbox|address)
    |(?:user|mailbox|recipient|account|address)\ (?:is\ |has\ been\ |was\ )?
     (?:unknown|not\ found|unavailable|disabled|inactive|invalid|full|closed|suspended|over\ ?quota|does\ ?n[o']t\ exist
     |does\ not\ exist)
    |does(?:n't|\ not)\ have\ an?\ .{0,40}account|over\ ?quota|quota\ exceeded|exceeded\ .{0,20}quota|mailbox\ full""",
    re.IGNORECASE | re.VERBOSE,
)


def is_addressees(code: int, text: str, *, of_recipient: bool) -> bool:
    """Whether a refusal will last as long as the address does.

    `of_recipient` tells the answer to RCPT from that to the letter itself, which is rarely about the address.
    """
    text = _ADDRESS.sub("", text)
    if not 500 <= code < 600 or _SURELY_OURS.search(text):
        return False
    enhanced = _ENHANCED.search(text)
    status = (int(enhanced[1]), int(enhanced[2])) if enhanced else (1, 0)
    if status in _ADDRESSEE_CODES:
        return True
    is_perhaps_ours = bool(_PERHAPS_OURS.search(text))
    if _ADDRESSEE.search(text) and not is_perhaps_ours:
        return True  # whatever the code: Yandex says "550 5.7.1 No such user!"
    return status == (1, 0) and of_recipient and 550 <= code <= 553 and not is_perhaps_ours


def is_ours(text: str) -> bool:
    """Whether a temporary refusal of a recipient or a letter speaks of how this service sends mail."""
    return bool(_SURELY_OURS.search(_ADDRESS.sub("", text)))


def status_of(text: str) -> str:
    """Return the enhanced status code in what a server says, or an empty string."""
    enhanced = _ENHANCED.search(text)
    return f"{enhanced[1]}.{enhanced[2]}" if enhanced else ""
