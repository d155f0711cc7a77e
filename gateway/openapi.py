"""The published document: OpenAPI 3.1, built from the declared operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from gateway.multipart_form import FORM_TYPE
from gateway.routing import Answer, Operation, StreamedBody

_REF = "#/components/schemas/{model}"
_PATH_VARIABLE = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")
_PARAMETER_SOURCES = {"path": "path", "query": "query", "headers": "header"}
# Generators make one class of a schema, and cannot tell a form of it from JSON: forms are described in words.
_BODY_DESCRIPTIONS = {"json": {}, "body": {"description": "Or a form with the same fields, urlencoded or multipart."}}
# OpenAPI 3.1 could leave out the schema of raw bytes, but generators then leave out the body.
_RAW = {"type": "string", "format": "binary"}
# Swagger UI offers a file chooser for either of the two keywords, older generators know one of them.
_BYTES = {**_RAW, "contentMediaType": "application/octet-stream"}
_HEADERS = {
    "X-Request-Id": {"description": "Names this request in the logs.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "`no-store`.", "schema": {"type": "string"}},
}
"""Of every answer, where it does not say otherwise."""

Json = dict[str, Any]


def build(title: str, version: str, description: str, operations: Iterable[Operation]) -> Json:
    """The document as a JSON object; paths and operations in the order of their declaration."""
    published = [operation for operation in operations if operation.published]
    schemas = _Schemas(published)
    paths: dict[str, Json] = {}
    for operation in published:
        path = _PATH_VARIABLE.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in published)],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "headers": _HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        # The empty alternative makes tokens optional: what needs one answers 401.
        "security": [{}, {"bearer": []}],
    }


class _Generator(GenerateJsonSchema):
    """Knows that an answer has the fields, too, that have a default."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


class _Schemas:
    """The JSON schemas of every model of every operation, and which of them the document refers to."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        wanted: dict[tuple[str, Any], TypeAdapter[Any]] = {}
        for operation in operations:
            for model in operation.models.values():
                wanted.setdefault(("validation", model), TypeAdapter(model))
            for answer in operation.answers.values():
                if answer.model is not None:
                    wanted.setdefault(("serialization", answer.model), TypeAdapter(answer.model))
        inputs: Any = [((mode, model), mode, adapter) for (mode, model), adapter in wanted.items()]
        found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=_Generator)
        self._found: Mapping[Any, Json] = {key: schema for (key, _), schema in found.items()}
        self._definitions: dict[str, Json] = definitions.get("$defs", {})
        self._used: set[str] = set()

    def of(self, mode: str, model: Any) -> Json:
        """The schema of `model`, as a reference where it is a named one."""
        schema = self._found[mode, model]
        self._use(schema)
        return schema

    def fields(self, model: Any) -> Iterable[tuple[str, bool, Json]]:
        """Name, necessity and schema of each field of a model that becomes parameters, not a body."""
        schema = self._found["validation", model]
        schema = self._definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        required = schema.get("required", ())
        for name, each in schema.get("properties", {}).items():
            self._use(each)
            yield name, name in required, each

    def components(self) -> dict[str, Json]:
        """The named schemas that something refers to."""
        return {name: schema for name, schema in sorted(self._definitions.items()) if name in self._used}

    def _use(self, node: Any) -> None:
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name in self._definitions and name not in self._used:
                self._used.add(name)
                self._use(self._definitions[name])
            for child in node.values():
                self._use(child)
        elif isinstance(node, list):
            for child in node:
                self._use(child)


def _operation(operation: Operation, path: str, schemas: _Schemas) -> Json:
    document: Json = {
        "operationId": f"{operation.method.lower()}_{re.sub(r'[^0-9a-zA-Z]+', '_', path).strip('_')}".rstrip("_"),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            str(status): _response(answer, schemas, bodiless=operation.method == "HEAD")
            for status, answer in operation.answers.items()
        },
    }
    if operation.description:
        document["description"] = operation.description
    if parameters := _parameters(operation, path, schemas):
        document["parameters"] = parameters
    if body := _request_body(operation, schemas):
        document["requestBody"] = body
    return document


def _parameters(operation: Operation, path: str, schemas: _Schemas) -> list[Json]:
    parameters: list[Json] = []
    for source, place in _PARAMETER_SOURCES.items():
        if source not in operation.models:
            continue
        for name, required, schema in schemas.fields(operation.models[source]):
            shown = name.replace("_", "-") if place == "header" else name
            parameter = {"name": shown, "in": place, "required": required or place == "path", "schema": schema}
            if "description" in schema:
                parameter["description"] = schema["description"]
            parameters.append(parameter)
    named = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_VARIABLE.findall(path)
        if name not in named
    ]
    parameters += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.request_headers.items()
    ]
    return parameters


def _request_body(operation: Operation, schemas: _Schemas) -> Json | None:
    for source, description in _BODY_DESCRIPTIONS.items():
        if source in operation.models:
            schema = schemas.of("validation", operation.models[source])
            return {"required": True, **description, "content": {"application/json": {"schema": schema}}}
    if operation.takes is None:
        return None
    content = {media_type: _streamed(operation.takes, media_type) for media_type in operation.takes.media_types}
    return {"required": True, "description": operation.takes.description, "content": content}


def _streamed(body: StreamedBody, media_type: str) -> Json:
    if media_type != FORM_TYPE:
        return {"schema": _BYTES}
    properties: Json = {name: {"type": "string", "description": text} for name, text in body.text_fields.items()}
    properties |= dict.fromkeys(body.file_fields, _BYTES)
    required = [*body.text_fields, *body.file_fields[:1]]
    return {"schema": {"type": "object", "properties": properties, "required": required}}


def _response(answer: Answer, schemas: _Schemas, *, bodiless: bool) -> Json:
    headers: Json = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    for name, text in answer.headers.items():
        headers[name] = {"description": text, "schema": {"type": "string"}}
    response: Json = {"description": answer.description, "headers": headers}
    content: Json = {
        media_type: {"schema": {"type": "string"} if media_type.startswith("text/") else _RAW}
        for media_type in answer.media_types
    }
    if answer.model is not None:
        content["application/json"] = {"schema": schemas.of("serialization", answer.model)}
    if content and not bodiless:
        response["content"] = content
    return response
