"""Holds our wire formats against the vendors' own libraries.

check.py requests FILE        validates [{"format": ..., "body": ...}, ...] against the libraries' types
check.py answer FORMAT URL    asks a server through the library and prints text, calls and usage as JSON
"""

import importlib
import json
import pkgutil
import sys
from typing import Union, get_args

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import is_typeddict

TOOL_SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def forbid_unknown_fields(package):
    """Plain typed dictionaries take any field; ours must have none that the library does not know."""
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(found.name)
        for value in vars(module).values():
            if is_typeddict(value):
                value.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def read_whole(value):
    """Lists are validated while they are read, so read them."""
    if isinstance(value, dict):
        for inner in value.values():
            read_whole(inner)
    elif not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
        for inner in value:
            read_whole(inner)


def check_anthropic(bodies):
    import anthropic.types
    from anthropic.types.message_content_param import MessageContentParam
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    forbid_unknown_fields(anthropic.types)
    adapter = TypeAdapter(MessageCreateParamsStreaming)
    # The library also takes blocks of its answers, which allow any field; ours must be blocks of requests.
    union = next(get_args(part)[0] for part in get_args(MessageContentParam) if get_args(part))
    block = TypeAdapter(Union[tuple(part for part in get_args(union) if is_typeddict(part))])
    for body in bodies:
        read_whole(adapter.validate_python(body))
        for message in body["messages"]:
            for part in message["content"]:
                read_whole(block.validate_python(part))


def check_openai(bodies, kind):
    import openai.types

    if kind == "openai-chat":
        from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as Params

        forbid_unknown_fields(openai.types.chat)
    else:
        from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as Params

        forbid_unknown_fields(openai.types.responses)
    adapter = TypeAdapter(Params)
    for body in bodies:
        read_whole(adapter.validate_python(body))


def check_gemini(bodies):
    from google.genai import types

    known = {"contents", "systemInstruction", "tools", "generationConfig"}
    for body in bodies:
        assert set(body) <= known, f"unknown fields: {set(body) - known}"
        for content in body["contents"]:
            types.Content.model_validate(content)
        if "systemInstruction" in body:
            types.Content.model_validate(body["systemInstruction"])
        for tool in body.get("tools", []):
            types.Tool.model_validate(tool)
        types.GenerationConfig.model_validate(body["generationConfig"])


def check_ollama(bodies):
    from ollama._types import ChatRequest, Message, Options

    # Its types take any field; ours must have none that it does not know. The server knows calls by an id, the library not yet.
    known = set(Message.model_fields) | {"tool_call_id"}
    for body in bodies:
        assert set(body) <= set(ChatRequest.model_fields), f"unknown fields: {set(body) - set(ChatRequest.model_fields)}"
        assert set(body["options"]) <= set(Options.model_fields), f"unknown options: {body['options']}"
        ChatRequest.model_validate({**body, "messages": []})
        for message in body["messages"]:
            assert set(message) <= known, f"unknown fields: {set(message) - known}"
            pictures = [{"value": picture} for picture in message.get("images", [])]
            Message.model_validate({**message, "images": pictures})
            for call in message.get("tool_calls", []):
                assert set(call) <= {"id", "function"} and set(call["function"]) <= set(Message.ToolCall.Function.model_fields), call


def check_requests(path):
    with open(path) as file:
        cases = json.load(file)
    for format in sorted({case["format"] for case in cases}):
        bodies = [case["body"] for case in cases if case["format"] == format]
        if format == "anthropic":
            check_anthropic(bodies)
        elif format == "gemini":
            check_gemini(bodies)
        elif format == "ollama":
            check_ollama(bodies)
        else:
            check_openai(bodies, format)
        print(f"{format}: {len(bodies)} requests are as the library would write them")


def ask_anthropic(url):
    from anthropic import Anthropic

    client = Anthropic(base_url=url, api_key="key-for-tests", max_retries=0)
    tools = [{"name": "read", "description": "Reads.", "input_schema": TOOL_SCHEMA}]
    with client.messages.stream(
        model="test-model", max_tokens=500, messages=[{"role": "user", "content": "hi"}], tools=tools
    ) as stream:
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
    return text, calls, message.usage.input_tokens, message.usage.output_tokens, message.usage.cache_read_input_tokens


def ask_chat(url):
    from openai import OpenAI

    client = OpenAI(base_url=url + "/v1", api_key="key-for-tests", max_retries=0)
    tools = [{"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": TOOL_SCHEMA}}]
    with client.chat.completions.stream(
        model="test-model",
        messages=[{"role": "user", "content": "hi"}],
        tools=tools,
        stream_options={"include_usage": True},
    ) as stream:
        completion = stream.get_final_completion()
    message, usage = completion.choices[0].message, completion.usage
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or []]
    cached = usage.prompt_tokens_details.cached_tokens
    return message.content or "", calls, usage.prompt_tokens - cached, usage.completion_tokens, cached


def ask_responses(url):
    from openai import OpenAI

    client = OpenAI(base_url=url + "/v1", api_key="key-for-tests", max_retries=0)
    tools = [{"type": "function", "name": "read", "description": "Reads.", "parameters": TOOL_SCHEMA, "strict": False}]
    with client.responses.stream(model="test-model", input="hi", tools=tools, store=False) as stream:
        response = stream.get_final_response()
    calls = [[item.name, json.loads(item.arguments)] for item in response.output if item.type == "function_call"]
    cached = response.usage.input_tokens_details.cached_tokens
    return response.output_text, calls, response.usage.input_tokens - cached, response.usage.output_tokens, cached


def ask_gemini(url):
    from google import genai
    from google.genai import types

    client = genai.Client(api_key="key-for-tests", http_options=types.HttpOptions(base_url=url))
    declared = types.FunctionDeclaration(name="read", description="Reads.", parameters_json_schema=TOOL_SCHEMA)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    text, calls, usage = "", [], None
    for chunk in client.models.generate_content_stream(model="test-model", contents="hi", config=config):
        for part in chunk.candidates[0].content.parts or []:
            text += part.text or ""
            if part.function_call:
                calls.append([part.function_call.name, part.function_call.args])
        usage = chunk.usage_metadata or usage
    cached = usage.cached_content_token_count or 0
    return text, calls, usage.prompt_token_count - cached, usage.candidates_token_count, cached


def ask_ollama(url):
    from ollama import Client

    tools = [{"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": TOOL_SCHEMA}}]
    text, calls, last = "", [], None
    for chunk in Client(host=url).chat(
        model="test-model", messages=[{"role": "user", "content": "hi"}], tools=tools, stream=True
    ):
        text += chunk.message.content or ""
        calls += [[call.function.name, dict(call.function.arguments)] for call in chunk.message.tool_calls or []]
        last = chunk
    return text, calls, last.prompt_eval_count, last.eval_count, 0


def answer(format, url):
    ask = {
        "anthropic": ask_anthropic,
        "openai-chat": ask_chat,
        "openai-responses": ask_responses,
        "gemini": ask_gemini,
        "ollama": ask_ollama,
    }
    text, calls, input_tokens, output_tokens, cached = ask[format](url)
    print(json.dumps({"text": text, "calls": calls, "usage": [input_tokens, output_tokens, cached]}))


if __name__ == "__main__":
    if sys.argv[1] == "requests":
        check_requests(sys.argv[2])
    else:
        answer(sys.argv[2], sys.argv[3])
