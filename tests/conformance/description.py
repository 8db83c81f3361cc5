"""Judges a request by what the vendor publishes about it: an OpenAPI 3 or Swagger 2 description in `fixtures/specs`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.support import Request

SPECS = Path(__file__).parents[1] / "fixtures" / "specs"
_NUMBERS = {"integer": int, "number": float}
_UNDEFINED = {"type": "oauth2"}  # DocuSign names a scheme that its description does not define


@dataclass(frozen=True)
class Operation:
    """What a vendor says about one method of one path."""

    path: str
    rules: Mapping[str, Any]
    schemes: Mapping[str, Any]
    form: str  # openapi or swagger

    @property
    def examples(self) -> Mapping[str, Any]:
        """The vendor's example pages, by name."""
        answer = self.rules.get("responses", {}).get("200", {})
        named = answer.get("content", {}).get("application/json", {}).get("examples", {})
        return {name: example["value"] for name, example in named.items()} | answer.get("examples", {})

    def faults(self, request: Request) -> Iterator[str]:
        """What breaks the description, in a few words each."""
        yield from self._faults_of_query(request)
        yield from self._faults_of_body(request)
        needed: list[Mapping[str, Any]] = self.rules.get("security", [])
        ways = [[self.schemes.get(name, _UNDEFINED) for name in way] for way in needed]
        if ways and not any(all(_is_shown(scheme, request) for scheme in way) for way in ways):
            yield f"{self.path}: no credential of {sorted({name for way in needed for name in way})}"

    def _faults_of_query(self, request: Request) -> Iterator[str]:
        sent: dict[str, list[str]] = {}
        for name, value in request.pairs:
            sent.setdefault(name, []).append(value)
        for parameter in self.rules["parameters"]:
            if parameter["in"] != "query":
                continue
            name, schema = parameter["name"], parameter.get("schema", parameter)
            found = {name: sent.pop(name)} if name in sent else {}
            if schema.get("type") == "object":
                parts = {f"{name}[{part}]": inner for part, inner in schema.get("properties", {}).items()}
                for part in parts.keys() & sent.keys():
                    yield from _faults_of_value(part, sent.pop(part), parts[part])
            elif found:
                yield from _faults_of_value(name, found[name], schema)
            elif parameter.get("required"):
                yield f"{self.path}: {name} is missing"
        yield from (f"{self.path}: {name} is no parameter" for name in sent)

    def _faults_of_body(self, request: Request) -> Iterator[str]:
        for parameter in self.rules["parameters"]:
            if parameter["in"] != "body":
                continue
            schema, body = parameter["schema"], json.loads(request.body)
            # a field counts as unknown, too, where the part of the schema that has it does not hold
            errors = list(_errors(schema, body)) or _errors({**schema, "unevaluatedProperties": False}, body)
            yield from (f"{error.json_path}: {error.message}" for error in errors)


def operations(vendor: str) -> dict[tuple[str, re.Pattern[str]], Operation]:
    """By method and the pattern of the whole path."""
    found = {}
    for document in json.loads((SPECS / f"{vendor}.json").read_text(encoding="utf-8")):
        server = document.get("servers", [{"url": ""}])[0]["url"]
        base = (document.get("basePath") or re.sub(r"^https://[^/]*", "", server)).rstrip("/")
        schemes = document.get("securityDefinitions") or document.get("components", {}).get("securitySchemes", {})
        for path, methods in document["paths"].items():
            pattern = re.compile(re.sub(r"\\{[^/]*?\\}", "[^/]+", re.escape(base + path)))
            for method, rules in methods.items():
                secured = {"security": document.get("security", []), **rules}
                form = "swagger" if "swagger" in document else "openapi"
                found[method.upper(), pattern] = Operation(base + path, secured, schemes, form)
    return found


def operation(vendor: str, request: Request) -> Operation | None:
    """The operation that a request asks for, if the vendor describes it."""
    for (method, pattern), found in operations(vendor).items():
        if method == request.method and pattern.fullmatch(request.path):
            return found
    return None


def _faults_of_value(name: str, values: list[str], schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("type") == "array":
        items = [part for value in values for part in value.split(",")]
        for item in items:
            yield from _faults_of_value(name, [item], schema.get("items", {}))
        return
    if len(values) > 1:
        yield f"{name} is there {len(values)} times"
    yield from (f"{name}: {error.message}" for error in _errors(schema, _typed(values[0], schema)))


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A value as the description calls it; text where it can't be that."""
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text, text)
    try:
        return _NUMBERS[schema["type"]](text)
    except (KeyError, ValueError):
        return text


def _errors(schema: Mapping[str, Any], value: Any) -> Iterator[Any]:
    # beside the schema, Swagger 2 has the parameter's own `required`
    rules = schema if isinstance(value, dict) else {k: v for k, v in schema.items() if k != "required"}
    return Draft202012Validator(rules).iter_errors(value)


def _is_shown(scheme: Mapping[str, Any], request: Request) -> bool:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if scheme["type"] == "apiKey" and scheme["in"] == "header":
        return bool(headers.get(scheme["name"].lower()))
    return scheme["type"] in ("oauth2", "http") and headers.get("authorization", "").startswith("Bearer ")
