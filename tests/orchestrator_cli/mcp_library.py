"""A server made with the mcp library, which answers each call with what it was given: a program.

Its arguments are a JSON file with the tools that it lists, and `stdio`, or the way it is served over HTTP
(`http`, `sse`, or `oauth` for HTTP with logins); then it prints its address. `OTHER_TOKEN` is the bearer
token that it asks for, if it is set.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

TOOLS = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


async def listed(_context: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool.model_validate(row) for row in TOOLS])


async def called(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    if params.name == "fail":
        return types.CallToolResult(content=[types.TextContent(text="it failed")], is_error=True)
    return types.CallToolResult(
        content=[], structured_content={"tool": params.name, "arguments": params.arguments}
    )


SERVER: Server[Any] = Server("library", version="1", on_list_tools=listed, on_call_tool=called)


async def on_streams() -> None:
    async with stdio_server() as (incoming, outgoing):
        await SERVER.run(incoming, outgoing, SERVER.create_initialization_options())


def sse_app() -> Starlette:
    transport = SseServerTransport("/messages/")

    async def opened(request: Request) -> Response:
        async with transport.connect_sse(request.scope, request.receive, request._send) as (incoming, out):
            await SERVER.run(incoming, out, SERVER.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/mcp", opened), Mount("/messages/", transport.handle_post_message)])


def http_app(url: str, *, with_logins: bool) -> Starlette:
    if not with_logins:
        return SERVER.streamable_http_app()
    sys.path.insert(0, str(Path(__file__).parent))
    from mcp.server.auth.provider import ProviderTokenVerifier
    from mcp_logins import Logins, auth_settings

    logins = Logins()
    return SERVER.streamable_http_app(
        auth=auth_settings(url), auth_server_provider=logins, token_verifier=ProviderTokenVerifier(logins)
    )


def guarded(app: Any) -> Any:
    """The app, for those that know the token."""
    wanted = f"Bearer {os.environ['OTHER_TOKEN']}".encode() if "OTHER_TOKEN" in os.environ else None

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization")
        if scope["type"] == "http" and wanted is not None and given != wanted:
            await Response(status_code=401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


def main() -> None:
    if sys.argv[2] == "stdio":
        anyio.run(on_streams)
        return
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    app = sse_app() if sys.argv[2] == "sse" else http_app(url, with_logins=sys.argv[2] == "oauth")
    config = uvicorn.Config(guarded(app), log_level="warning", ws="none", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


main()
