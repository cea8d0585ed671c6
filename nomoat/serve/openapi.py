"""The OpenAPI document of the server, made from the records that its bodies are read with."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import nomoat
from nomoat.config import JsonObject
from nomoat.serve import fields, messages, responses
from nomoat.serve.pages import bodies

POSTS: dict[str, tuple[type[BaseModel], str, bool]] = {  # path -> body, what it does, whether it can stream
    "/v1/chat/completions": (fields.ChatBody, "The next turn of a conversation", True),
    "/v1/completions": (fields.CompletionBody, "What follows a text, or how probable it is", True),
    "/v1/responses": (responses.ResponseBody, "The next turn, as OpenAI's newer clients ask", True),
    "/v1/messages": (messages.MessageBody, "The next turn, as Anthropic's clients ask", True),
    "/v1/messages/count_tokens": (messages.CountBody, "How many tokens the prompt of a message has", False),
    "/v1/tokenize": (fields.TokenizeBody, "The ids of a text or a conversation", False),
    "/v1/detokenize": (fields.DetokenizeBody, "The text of ids", False),
    "/update_weights_from_disk": (fields.UpdateBody, "Weights take the place of a model's", False),
    "/api/inspect": (bodies.InspectBody, "Probabilities and experts of each token of a reply", False),
    "/api/problem": (bodies.ProblemBody, "A problem that no model was trained on", False),
    "/api/verdict": (bodies.VerdictBody, "What the task's verifier says of an answer", False),
    "/api/ask": (bodies.AskBody, "How the answers to a problem spread", False),
}
GETS = {
    "/v1/models": "The models that can be asked",
    "/v1/models/{name}": "One of them",
    "/health": "Whether it answers; asks for no key",
    "/metrics": "Counters for Prometheus",
    "/version": "Of the program",
    "/openapi.json": "This document",
    "/api/models": "The models with their stages, costs and scores",
    "/api/kinds": "The tasks that make problems",
    "/api/runs": "The runs of a directory",
    "/api/runs/{name}": "All that a page says of a run",
    "/api/runs/{name}/curve/{stage}": "The fields of a stage's steps, thinned",
    "/api/runs/{name}/rollouts": "What the policy wrote, the newest step first",
    "/api/runs/{name}/events": "The event log from a line on, as it grows",
    "/api/compare": "Two runs side by side",
}
QUERIES = {  # path -> what may stand in the query of a GET, and whether it has to
    "/api/runs/{name}/rollouts": {"stage": True, "family": False, "only": False, "step": False, "at": False,
                                  "limit": False},
    "/api/runs/{name}/events": {"after": False},
    "/api/compare": {"a": True, "b": True},
}  # fmt: skip
ERRORS = {
    "400": "a field is wrong or can't be honoured; `param` names it",
    "401": "no key, or a wrong one",
    "403": "a Host or Origin that is not this server's",
    "404": "no such model, run or stage",
    "409": "the files of a run are damaged",
    "413": "the body is too long",
    "429": "too many wait; try again",
    "503": "the model could not be loaded, or has failed",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(served: Collection[str]) -> JsonObject:
    """OpenAPI 3.1 of the paths that are served."""
    refs = "#/components/schemas/{model}"
    posts = {path: post for path, post in POSTS.items() if path in served}
    shapes = [(cls, "validation") for cls, _, _ in posts.values()]
    named, schemas = models_json_schema(shapes, ref_template=refs)
    gets = {path: words for path, words in GETS.items() if path in served}
    paths = {path: {"get": operation(words, {}, GET_TYPES.get(path))} for path, words in gets.items()}
    for path in paths:
        paths[path]["get"] |= {"parameters": parameters(path)}
    for path, (cls, words, streams) in posts.items():
        content = {"application/json": {"schema": named[cls, "validation"]}}
        asked = {"requestBody": {"required": True, "content": content}}
        paths[path] = {"post": operation(words, asked, "text/event-stream" if streams else None)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nomoat", "version": nomoat.__version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


GET_TYPES = {"/metrics": "text/plain", "/api/runs/{name}/events": "text/event-stream"}


def parameters(path: str) -> list[JsonObject]:
    """What stands in the path and in the query of a GET."""
    places = [(name, "path", True) for name in re.findall(r"{(\w+)}", path)]
    places += [(name, "query", must) for name, must in QUERIES.get(path, {}).items()]
    text = {"type": "string"}
    return [{"name": name, "in": place, "required": must, "schema": text} for name, place, must in places]


def operation(words: str, asked: JsonObject, other: str | None) -> JsonObject:
    """One operation; `other` is a type of its answer beside JSON."""
    types: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if other:
        types[other] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses = {"200": {"description": "the answer", "content": types}}
    responses |= {status: {"description": words, "content": error} for status, words in ERRORS.items()}
    return {"summary": words, **asked, "responses": responses}
