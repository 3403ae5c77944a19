"""A WebSocket as a session's way to its client."""

from __future__ import annotations

from typing import Final, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from speechwire.server.session import Closed, Disconnected

__all__ = ["WebSocketConnection"]

# RFC 6455 section 7.4.1: the purpose has been fulfilled, or the endpoint goes away.
CLOSED_IN_ORDER: Final = (1000, 1001)


class WebSocketConnection:
    """One WebSocket. All that uvicorn may raise where it is gone comes out as Disconnected.

    Args:
        socket: As Starlette gives it.
        subprotocol: That is agreed to where the client offers it; strict clients leave if none of theirs is.
    """

    def __init__(self, socket: WebSocket, subprotocol: str | None = None) -> None:
        self._socket = socket
        self._subprotocol = subprotocol if subprotocol in socket.scope.get("subprotocols", ()) else None

    async def accept(self) -> None:
        """Complete the handshake."""
        try:
            await self._socket.accept(self._subprotocol)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Disconnected from error

    async def recv(self) -> str | bytes:
        """Return the next message."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Closed if message.get("code") in CLOSED_IN_ORDER else Disconnected
        text = message.get("text")
        return cast(bytes, message["bytes"]) if text is None else cast(str, text)

    async def send(self, message: str | bytes) -> None:
        """Send a message, waiting until the client has taken enough of the last ones."""
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._socket.send({"type": "websocket.send", kind: message})
        except (WebSocketDisconnect, RuntimeError) as error:  # the latter where uvicorn has closed on its own account
            raise Disconnected from error

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""
        try:
            await self._socket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Disconnected from error
