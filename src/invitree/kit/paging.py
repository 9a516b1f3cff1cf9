"""Pages by key: where one ends is where the next begins, however deep."""

from typing import Annotated, Any

from litestar import Request
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

LARGEST_ID = 2**53 - 1  # the largest that every JSON client holds exactly (RFC 8259, 6)

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Rows a page.")]
After = Annotated[
    int, QueryParameter(ge=1, le=LARGEST_ID, description="Where the page before ended; follow `Link` for it.")
]
LINK = ResponseHeader(name="Link", description='The next page, `<…>; rel="next"` (RFC 8288).', documentation_only=True)


def next_page(last_id: int, *, limit: int) -> dict[str, str]:
    """Return the header that leads to the page after the row with this id."""
    return {"Link": f'<?limit={limit}&after={last_id}>; rel="next"'}


def is_plain_id(number: int, request: Request[Any, Any, Any]) -> bool:
    """Return whether an id can be one and stands in the path as we would write it: int() also takes `+5` and `5_0`."""
    return 0 < number <= LARGEST_ID and str(number) in request.scope["path"].split("/")
