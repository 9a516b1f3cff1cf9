"""What is asked of both services, and how their answers are told apart."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

Kind = Literal["username", "email", "activation"]  # of a Django service: see `site.configure`
_NAME = re.compile(r"\{(\w+)\}")
# What every refusal of Invitree has beside the members that djoser's has: the difference `error-members`.
ERROR_MEMBERS = frozenset({"type", "title", "status", "code", "detail", "error", "trace_id"})


@dataclass(frozen=True)
class Request:
    """A request, with `{email}`, `{token}` and so on where each side puts in its own."""

    method: str
    path: str
    body: Any = None
    sent_as: Literal["json", "form", "multipart", "raw"] = "json"
    auth: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return what has to be put in."""
        return set(_NAME.findall(f"{self.path} {self.body} {self.auth} {self.headers}"))

    def filled(self, values: Mapping[str, str]) -> "Request":
        """Return the request with values in the place of names."""
        body, headers = _fill(self.body, values), _fill(dict(self.headers), values)
        return replace(self, path=_fill(self.path, values), body=body, auth=_fill(self.auth, values), headers=headers)

    def sent(self, extra: Mapping[str, str]) -> dict[str, Any]:
        """Return what httpx sends of a request that is filled in."""
        headers = {**extra, **({"Authorization": self.auth} if self.auth else {}), **self.headers}
        if self.body is None:
            return {"headers": headers}
        if self.sent_as == "form":
            return {"headers": headers, "data": self.body}
        if self.sent_as == "multipart":
            return {"headers": headers, "files": {name: (None, value) for name, value in self.body.items()}}
        content = self.body if self.sent_as == "raw" else json.dumps(self.body)
        return {"headers": {"Content-Type": "application/json", **headers}, "content": content}


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        filled = _NAME.sub(lambda match: values[match[1]], value)
        return int(filled) if value == "{id}" else filled
    if isinstance(value, dict):
        return {_fill(key, values): _fill(one, values) for key, one in value.items()}
    return value


@dataclass(frozen=True)
class Case:
    """One comparison.

    `differs` is empty where both must answer alike. Else it is the anchor of a difference in
    `docs/coming-from-django.md`, a colon, and what `difference` must find.
    """

    name: str
    request: Request
    differs: str = ""
    before: Sequence[Request] = ()
    site: Kind = "username"
    is_staff: bool = False
    is_active: bool = True

    @property
    def anchor(self) -> str:
        """The difference that is named, if any."""
        return self.differs.partition(":")[0]

    @property
    def expected(self) -> str:
        """What `difference` must find."""
        return self.differs.partition(":")[2].strip()


def difference(djoser: httpx.Response, invitree: httpx.Response) -> str:
    """Return how two answers differ, in words: empty where they are alike.

    `201 / 400` is a status and `json / html` a media type of djoser and of Invitree. `+name` is a member of the body
    that only Invitree has, `-name` one that only djoser has, `name` one whose value differs. Where the statuses differ,
    the members that are compared are those of the refusals.
    """
    words = []
    if djoser.status_code != invitree.status_code:
        words.append(f"{djoser.status_code} / {invitree.status_code}")
    types = [_media_type(answer) for answer in (djoser, invitree)]
    if all(types) and types[0] != types[1]:
        words.append(f"{types[0]} / {types[1]}")
    theirs, ours = _members(djoser), _members(invitree)
    if djoser.status_code != invitree.status_code or "text/html" in types:
        theirs, ours = ({} if answer.is_success else said for answer, said in ((djoser, theirs), (invitree, ours)))
    if not invitree.is_success:
        ours = {name: value for name, value in ours.items() if name in theirs or name not in ERROR_MEMBERS}
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in theirs or name not in ours:
            words.append(f"+{name}" if name in ours else f"-{name}")
        elif theirs[name] != ours[name]:
            words.append(name)
    return " ".join(words)


def _media_type(answer: httpx.Response) -> str:
    return answer.headers.get("content-type", "").partition(";")[0] if answer.content else ""


def _members(answer: httpx.Response) -> dict[str, Any]:
    """Return what of a body can be compared: all but what each service makes up itself."""
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        return {}
    if isinstance(body, list) and body:
        ids = [one["id"] for one in body]
        whole = {"array": "sorted" if ids == sorted(ids) else "not sorted"}
        return whole | (dict.fromkeys(body[0], ...) if len(body) > 1 else _members_of(body[0]))
    return _members_of(body) if isinstance(body, dict) else {}


def _members_of(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _comparable(name, value) for name, value in body.items()}


def _comparable(name: str, value: Any) -> Any:
    if name == "access":
        return {claim: type(said).__name__ for claim, said in claims_in(value).items() if claim in _CLAIMS}
    if name == "refresh" and isinstance(value, str):
        return value.count(".")
    if name == "messages":
        return [sorted(message) for message in value]
    if isinstance(value, str) and value.startswith("http://"):
        return urlsplit(value).path
    if name in ("id", "auth_token"):
        return type(value).__name__
    return value


_CLAIMS = {"user_id", "token_type", "exp", "iat", "jti"}  # those of djangorestframework-simplejwt


def claims_in(token: str) -> dict[str, Any]:
    """Return what a client reads in a JWT."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def get(path: str, **more: Any) -> Request:
    """Return a GET."""
    return Request("GET", path, **more)


def post(path: str, body: Any = None, **more: Any) -> Request:
    """Return a POST of JSON."""
    return Request("POST", path, body, **more)


def form(path: str, body: Mapping[str, str], **more: Any) -> Request:
    """Return a POST of a form, as a browser sends it."""
    return Request("POST", path, body, sent_as="form", **more)


def multipart(path: str, body: Mapping[str, str], **more: Any) -> Request:
    """Return a POST of a form, as `FormData` sends it."""
    return Request("POST", path, body, sent_as="multipart", **more)


def raw(method: str, path: str, body: str, **more: Any) -> Request:
    """Return a request with this very body."""
    return Request(method, path, body, sent_as="raw", **more)
