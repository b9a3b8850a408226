"""Drives `aedile mcp` with the official SDK. The argument is JSON: how to start the server, and the root that the client names."""

import asyncio
import json
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client


async def main(start):
    progress = []

    async def roots(_context):
        return types.ListRootsResult(roots=[types.Root(uri=Path(start["root"]).as_uri(), name="project")])

    async def note(done, total, message):
        progress.append(message)

    server = StdioServerParameters(command=start["command"], args=start["args"], env=start["env"], cwd=start["cwd"])
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write, list_roots_callback=roots) as session:
            hello = await session.initialize()
            assert hello.server_info.name == "aedile" and "box" in hello.instructions, hello

            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert {"run", "code", "status", "mail_send", "mail_list", "costs", "task_retry"} <= set(tools), sorted(tools)
            assert tools["status"].annotations.read_only_hint and not tools["run"].annotations.read_only_hint
            assert tools["code"].input_schema["properties"]["prompt"]["type"] == "string"

            # The paths are the root's, although the server was started elsewhere.
            ran = await session.call_tool("run", {"tasks": "../tasks.toml"}, progress_callback=note)
            assert not ran.is_error and ran.structured_content["landed"] == 2, ran
            assert any("landed on aedile/main" in message for message in progress), progress

            status = (await session.call_tool("status", {})).structured_content
            assert status["runs"][0]["state"] == "ended", status
            mail = (await session.call_tool("mail_list", {})).structured_content
            assert mail == {"mail": []}, mail
            costs = (await session.call_tool("costs", {})).structured_content
            assert {row["task"] for row in costs["costs"]} == {"one", "two"}, costs
            # One agent alone, its change made a branch of at once, and a second one kept and taken later.
            alone = await session.call_tool("code", {"prompt": "Write part three", "model": start["model"], "branch": "three"}, progress_callback=note)
            assert not alone.is_error and alone.structured_content["branch"] == "three", alone
            assert alone.structured_content["state"] == "taken" and alone.structured_content["files"][0]["path"] == "parts/three.txt", alone
            kept = (await session.call_tool("code", {"prompt": "Write part four", "model": start["model"], "scope": ["parts/**"]})).structured_content
            assert kept["state"] == "held", kept
            taken = (await session.call_tool("code", {"take": kept["change"], "apply": True})).structured_content
            assert taken["applied"] == ["parts/four.txt"], taken
            long = await session.call_tool("run", {"goal": "x" * (1 << 20), "yes": True})
            assert long.is_error and "1048576 bytes" in long.content[0].text and "name the file" in long.content[0].text, long

            feed = (await session.call_tool("feed", {"last": 3})).structured_content
            assert len(feed["items"]) == 3, feed

            late = await session.call_tool("task_retry", {"task": "one"})
            assert late.is_error and "does not wait for a person" in late.content[0].text, late
            wrong = await session.call_tool("task_retry", {"task": "one", "colour": "red"})
            assert wrong.is_error and 'no argument "colour"' in wrong.content[0].text, wrong
            try:
                unknown = await session.call_tool("no_such", {})
                assert unknown.is_error and "no_such" in unknown.content[0].text, unknown
            except Exception as error:
                assert "no_such" in str(error), error
    print("all good")


asyncio.run(main(json.loads(sys.argv[1])))
