"""The OpenAPI document is the routes, no more and no less, and says everything about each."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from invitree.app import create_app
from invitree.base.problems import catalog
from invitree.base.settings import Settings

APP = create_app(Settings())
DOCUMENT: dict[str, Any] = APP.openapi_schema.to_schema()

UNDOCUMENTED = {
    ("GET", "/metrics"),
    ("GET", "/home/{name}"),
    ("GET", "/account"),
    ("GET", "/account/{name}"),
    ("GET", "/docs"),
    ("GET", "/docs/try"),
    ("GET", "/docs/assets/{name}"),
    ("GET", "/schema/openapi.json"),
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each method, path and operation of the document."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_the_document_is_equal_to_the_routes() -> None:
    served = {
        (str(method), re.sub(r":\w+", "", route.path))
        for route in APP.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if isinstance(handler, HTTPRouteHandler)
        for method in handler.http_methods
        if method != "OPTIONS"
    }
    assert served - UNDOCUMENTED == {(method, path) for method, path, _ in operations()}


@pytest.mark.parametrize(("method", "path", "operation"), list(operations()), ids=lambda value: str(value)[:40])
def test_operations_are_documented(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert len(operation["description"]) > 20
    assert [tag["name"] for tag in DOCUMENT["tags"] if tag["name"] in operation["tags"]]
    statuses = set(operation["responses"])
    assert {"500", "503"} <= statuses
    if {} not in operation.get("security", [{}]):
        assert "401" in statuses
    if "requestBody" in operation:
        assert {"400", "413", "415"} <= statuses
    if "{" in path and "check" not in path:
        assert "404" in statuses
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            body = response["content"]["application/problem+json"]
            assert path.startswith(("/auth", "/api")) == ("application/json" in response["content"])
            assert body["examples"], (method, path, status)
            for example in body["examples"].values():
                assert example["value"]["status"] == int(status)


def test_bodies_of_our_own_are_closed_to_other_fields_and_djosers_are_not() -> None:
    bodies = {name: body for name, body in DOCUMENT["components"]["schemas"].items() if name.endswith("In")}
    assert len(bodies) == 15
    closed = {name for name, schema in bodies.items() if schema.get("additionalProperties") is False}
    assert closed == {"CodeIn", "LogOutIn"}


def test_bodies_are_json_or_forms() -> None:
    forms = {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}
    assert all(set(one["requestBody"]["content"]) == forms for _, _, one in operations() if "requestBody" in one)


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))


def test_every_problem_is_documented_somewhere() -> None:
    told = {
        example["value"]["code"]
        for _, _, operation in operations()
        for response in operation["responses"].values()
        for body in (response.get("content") or {}).values()
        for example in (body.get("examples") or {}).values()
    }
    # Any address or method that does not exist, told on the front page.
    assert {problem.code for problem in catalog()} - told <= {"method_not_allowed"}


def test_properties_have_examples_or_formats() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            plain = described if "type" in described else next(iter(described.get("oneOf", [{}])))
            says_enough = {"examples", "format", "description", "default"} & (described.keys() | plain.keys())
            assert says_enough or plain.get("type") in ("boolean", "integer") or name == "ProblemOut", (name, field)
