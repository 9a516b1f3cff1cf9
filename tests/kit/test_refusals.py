"""What mail servers say when they refuse, and whose fault that is."""

import pytest

from invitree.kit.email.refusals import is_address_at_fault

# Of the servers that are most met. Addresses are in it, since they can have any words.
THE_ADDRESSEES = [
    (550, "5.1.1 <anna@example.com>: Recipient address rejected: User unknown in local recipient table"),  # Postfix
    (550, "5.1.1 <relay-denied@blocked.example>: Recipient address rejected: User unknown in virtual mailbox table"),
    (550, "5.1.2 <anna@example.invalid>: Recipient address rejected: Domain not found"),
    (556, "5.1.10 <anna@example.com>: Recipient address rejected: Domain example.com does not accept mail (nullMX)"),
    (501, "5.1.3 Bad recipient address syntax"),
    (550, "Unrouteable address"),  # Exim
    (550, "Unknown user"),
    (550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),  # Exchange
    (550, "5.1.1 The email account that you tried to reach does not exist. Please try\n5.1.1 double-checking"),  # Gmail
    (550, "5.2.1 The email account that you tried to reach is disabled."),
    (552, "5.2.2 The email account that you tried to reach is over quota and inactive."),
    (550, "5.7.1 No such user!"),  # Yandex
    (550, "Message was not accepted -- invalid mailbox. Local mailbox anna@example.ru is unavailable: user not found"),
    (554, "delivery error: dd This user doesn't have a yahoo.com account (anna@yahoo.com)"),
    (550, "sorry, no mailbox here by that name. (#5.1.1)"),  # qmail
    (550, "#5.1.0 Address rejected."),  # IronPort
    (550, "5.3.0 <anna@example.com>... User unknown"),  # sendmail
    (551, "User not local; please try somebody else"),
    (553, "mailbox name not allowed"),
    (550, "no"),
    (550, "<spam-policy@relay.example>: no"),
]
OURS = [
    (554, "5.7.1 <anna@example.com>: Relay access denied"),  # Postfix
    (454, "4.7.1 <anna@example.com>: Relay access denied"),
    (554, "5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
    (504, "5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    (550, "5.7.1 <localhost>: Helo command rejected: Host not found"),
    (553, "5.7.1 <invitree@localhost>: Sender address rejected: not owned by user me"),
    (550, "5.1.8 <me@nowhere.example>: Sender address rejected: Domain not found"),
    (550, "5.1.0 <me@example.com>: Sender address rejected: User unknown in virtual mailbox table"),
    (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    (530, "5.7.0 Must issue a STARTTLS command first"),
    (550, "relay not permitted"),  # Exim
    (550, "authentication required"),
    (550, "Sender verify failed"),
    (550, "Administrative prohibition"),
    (501, "Syntactically invalid HELO argument(s)"),
    (550, "5.7.54 SMTP; Unable to relay recipient in non-accepted domain"),  # Exchange
    (550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    (554, "5.2.252 SendAsDenied; me@example.com not allowed to send as you@example.com"),
    (554, "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"),
    (550, "5.4.1 Recipient address rejected: Access denied."),
    (554, "Message rejected: Email address is not verified. The following identities failed the check"),  # SES
    (554, "Sending paused for this account."),
    (550, "5.7.26 This mail has been blocked because the sender is unauthenticated."),  # Gmail
    (550, "5.4.5 Daily user sending limit exceeded."),
    (552, "5.3.4 Message size exceeds fixed limit"),
    (553, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),  # qmail
    (553, "5.1.1 Sorry, that domain isn't in my list of allowed rcpthosts."),  # mailfront
    (554, "transaction failed"),
    (503, "5.5.1 Error: need MAIL command"),
    (452, "4.2.2 over quota"),
    (421, "too many connections"),
]


@pytest.mark.parametrize(("code", "text"), THE_ADDRESSEES)
def test_a_refusal_of_the_addressee_is_for_ever(code: int, text: str) -> None:
    assert is_address_at_fault(code, text, of_recipient=True)


@pytest.mark.parametrize(("code", "text"), OURS)
def test_a_refusal_that_the_operator_can_mend_is_not_for_ever(code: int, text: str) -> None:
    assert not is_address_at_fault(code, text, of_recipient=True)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [(550, "no", False), (554, "5.7.1 spam", False), (550, "5.1.1 gone", True), (554, "No such user here", True)],
)
def test_a_refusal_of_the_letter_is_the_addressees_only_if_it_says_so(code: int, text: str, expected: bool) -> None:
    assert is_address_at_fault(code, text, of_recipient=False) is expected
