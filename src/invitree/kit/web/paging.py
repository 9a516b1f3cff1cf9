"""Pages by key: where one ends is where the next begins, however deep."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

from invitree.base.problems import InvalidInput, Text

R = TypeVar("R")
T = TypeVar("T")
LARGEST_ID = 2**53 - 1  # the largest that every JSON client holds exactly (RFC 8259, 6)

_USE_AFTER = Text(
    "Pages go by `after` here: follow the Link header.", "Страницы здесь листают по `after`: следуйте заголовку Link."
)

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Rows a page.")]
_AFTER = QueryParameter(ge=1, le=LARGEST_ID, description="Where the page before ended; follow `Link` for it.")
After = Annotated[int, _AFTER]
AfterIfAny = Annotated[int | None, _AFTER]
LINK = ResponseHeader(name="Link", description='The next page, `<…>; rel="next"` (RFC 8288).', documentation_only=True)


def page(rows: Sequence[R], limit: int, show: Callable[[R], T], *, key: str = "id") -> Response[Sequence[T]]:
    """Return the first `limit` rows as they are shown; where there are more, with the header that leads on."""
    more = {"Link": f'<?limit={limit}&after={getattr(rows[limit - 1], key)}>; rel="next"'} if len(rows) > limit else {}
    return Response([show(row) for row in rows[:limit]], headers=more)


def refuse_other_paging(request: Request[Any, Any, Any]) -> None:
    """Raise InvalidInput where a client asks for pages as other services number them, and would get the first again."""
    other = [name for name in ("page", "offset") if name in request.query_params]
    if other:
        raise InvalidInput({name: [_USE_AFTER] for name in other})


def is_plain_id(number: int, request: Request[Any, Any, Any]) -> bool:
    """Return whether an id can be one and stands in the path as we would write it: int() also takes `+5` and `5_0`."""
    return 0 < number <= LARGEST_ID and str(number) in request.scope["path"].split("/")
