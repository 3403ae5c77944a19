"""The Gradium client: where the service is, with which key, under which bounds; and its calls."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from speechwire.errors import AuthError
from speechwire.gradium import post, pronunciations, speech, tokens, usages, voices, wire
from speechwire.gradium.link import Link
from speechwire.gradium.multiplex import Multiplexer
from speechwire.gradium.results import S2SResult, STTResult, TTSResult
from speechwire.gradium.resume import ReconnectPolicy, ResumingLink
from speechwire.gradium.stream import S2s, S2SStream, Stt, STTStream, Tts, TTSStream
from speechwire.gradium.sync import SyncCalls
from speechwire.gradium.tokens import TemporaryToken
from speechwire.transport import Connection, Limits, connect

if TYPE_CHECKING:
    from speechwire.gradium.link import RequestLink
    from speechwire.gradium.post import Recording
    from speechwire.gradium.rest import Rest
    from speechwire.gradium.stream import TextInput
    from speechwire.source import AudioInput

__all__ = ["GradiumClient"]

KEY_VARIABLE = "GRADIUM_API_KEY"


class GradiumClient:
    """A client of Gradium's speech services, or of any server that speaks the same wire.

    It holds no connection of its own: every call opens one and closes it. In `async with client`, connections of REST
    calls are kept and used again while the block lasts.

    Args:
        base_url: Address that the routes are joined to; http, https, ws or wss. Without a scheme, loopback hosts are
            taken as http and all others as https.
        api_key: Defaults to the environment variable GRADIUM_API_KEY.
        tts_route: Route of the text-to-speech WebSocket below `base_url`; may be empty.
        stt_route: Route of the speech-to-text WebSocket.
        s2s_route: Route of the speech-to-speech WebSocket.
        limits: Bounds of every connection; see `speechwire.transport.Limits`.
        compression: Offer WebSocket compression; off, because it costs more than it saves on audio.
        ssl_context: For services whose certificates the system does not know.

    Raises:
        AuthError: No key was given and the environment holds none; it is a ValueError.
    """

    def __init__(
        self,
        *,
        base_url: str = wire.BASE_URL,
        api_key: str | None = None,
        tts_route: str = wire.TTS_ROUTE,
        stt_route: str = wire.STT_ROUTE,
        s2s_route: str = wire.S2S_ROUTE,
        limits: Limits | None = None,
        compression: bool = False,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        api_key = api_key or os.environ.get(KEY_VARIABLE)
        if not api_key:
            raise AuthError(f"missing API key: give api_key or set {KEY_VARIABLE}")
        self.limits = limits or Limits()
        self._base_url = _websocket_url(base_url)
        self._api_key = _checked_key(api_key)
        self._routes = {wire.TTS.name: tts_route, wire.STT.name: stt_route, wire.S2S.name: s2s_route}
        self._compression = compression
        self._ssl_context = ssl_context

    async def __aenter__(self) -> GradiumClient:
        self.rest.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.rest.close()

    @functools.cached_property
    def sync(self) -> SyncCalls:
        """The buffered calls for scripts without an event loop; see `SyncCalls`."""
        return SyncCalls(self)

    def __repr__(self) -> str:
        return f"GradiumClient(base_url={self._base_url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request; they hold the key."""
        return {wire.API_KEY_HEADER: self._api_key, wire.API_SOURCE_HEADER: "speechwire"}

    @functools.cached_property
    def rest(self) -> Rest:
        """What REST calls go through; `httpx` is loaded when it is first asked for."""
        from speechwire.gradium.rest import Rest

        return Rest(
            f"http{self._base_url.removeprefix('ws')}",
            lambda: self.headers,
            self.limits,
            api_key=self._api_key,
            ssl_context=self._ssl_context,
            # Those of the environment are not for servers on this machine.
            use_proxies=not _is_loopback(urlsplit(self._base_url).hostname or ""),
        )

    async def connect(self, route: str) -> Connection:
        """Open a connection to a route below the base URL."""
        return await connect(
            self._base_url + route.lstrip("/"),
            self.headers,
            self.limits,
            compression=self._compression,
            ssl_context=self._ssl_context,
        )

    async def connect_to(self, product: wire.Product, route: str | None = None) -> Connection:
        """Open a connection to a product, by the client's route unless another is given."""
        return await self.connect(self._routes[product.name] if route is None else route)

    def link(
        self, product: wire.Product, route: str | None = None, reconnect: ReconnectPolicy | None = None
    ) -> RequestLink:
        """Return what a session of `product` talks through, not connected yet."""
        if reconnect is None:
            return self.new_link(product, route, self.limits)
        return ResumingLink(lambda: self.new_link(product, route, self.limits), product, self.limits, reconnect)

    def new_link(self, product: wire.Product, route: str | None, limits: Limits) -> Link:
        """Return one connection's link, not connected yet."""
        return Link(lambda: self.connect_to(product, route), product, limits, api_key=self._api_key)

    def multiplex_tts(self) -> Multiplexer[Tts]:
        """Prepare a connection for many syntheses at once; see `Multiplexer`."""
        return Multiplexer(self, Tts)

    def multiplex_stt(self) -> Multiplexer[Stt]:
        """Prepare a connection for many recognitions at once; see `Multiplexer`."""
        return Multiplexer(self, Stt)

    def multiplex_s2s(self) -> Multiplexer[S2s]:
        """Prepare a connection for many interpreting sessions at once; see `Multiplexer`."""
        return Multiplexer(self, S2s)

    def tts_realtime(
        self,
        *,
        send_setup_on_start: bool = True,
        wait_for_ready_on_start: bool = False,
        reconnect: ReconnectPolicy | None = None,
        **setup: Any,
    ) -> Tts:
        """Prepare a real-time synthesis; use it in `async with`.

        Args:
            send_setup_on_start: Send `setup` on entering the block.
            wait_for_ready_on_start: Wait for `ready` on entering the block; without it, `ready` is the first message.
            reconnect: When to go on over another connection; None for never. See `ReconnectPolicy`.
            **setup: Fields of the setup, see `TTSSetup`; `output_format` defaults to "wav".
        """
        return Tts(
            self,
            send_setup_on_start=send_setup_on_start,
            wait_for_ready_on_start=wait_for_ready_on_start,
            reconnect=reconnect,
            **setup,
        )

    async def tts_stream(
        self,
        setup: wire.TTSSetup | Mapping[str, Any],
        text: TextInput,
        *,
        reconnect: ReconnectPolicy | None = None,
    ) -> TTSStream:
        """Open a synthesis and return its output as a stream; see `speech.tts_stream`."""
        return await speech.tts_stream(self, setup, text, reconnect=reconnect)

    async def tts(
        self,
        setup: wire.TTSSetup | Mapping[str, Any],
        text: TextInput,
        *,
        reconnect: ReconnectPolicy | None = None,
    ) -> TTSResult:
        """Speak a whole text and return the whole audio; see `speech.tts`."""
        return await speech.tts(self, setup, text, reconnect=reconnect)

    def stt_realtime(
        self,
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        send_setup_on_start: bool = True,
        wait_for_ready_on_start: bool = False,
        reconnect: ReconnectPolicy | None = None,
        **setup: Any,
    ) -> Stt:
        """Prepare a real-time recognition; arguments as in `s2s_realtime`.

        `input_format` defaults to "wav", and to "pcm" where `sample_rate` is given.
        """
        if sample_rate is not None:
            setup = {"input_format": "pcm", **setup}
        return Stt(
            self,
            sample_rate=sample_rate,
            source_format=source_format,
            send_setup_on_start=send_setup_on_start,
            wait_for_ready_on_start=wait_for_ready_on_start,
            reconnect=reconnect,
            **setup,
        )

    async def stt_stream(
        self,
        setup: wire.STTSetup | Mapping[str, Any],
        audio: AudioInput,
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        realtime: bool = False,
        reconnect: ReconnectPolicy | None = None,
    ) -> STTStream:
        """Open a recognition over a source of audio and return its output as a stream; see `speech.stt_stream`."""
        return await speech.stt_stream(
            self,
            setup,
            audio,
            sample_rate=sample_rate,
            source_format=source_format,
            realtime=realtime,
            reconnect=reconnect,
        )

    async def stt(
        self,
        setup: wire.STTSetup | Mapping[str, Any],
        audio: AudioInput,
        sample_rate: int | None = None,
        *,
        source_format: str | None = None,
        realtime: bool = False,
        reconnect: ReconnectPolicy | None = None,
    ) -> STTResult:
        """Recognise a whole recording; see `speech.stt`."""
        return await speech.stt(
            self, setup, audio, sample_rate, source_format=source_format, realtime=realtime, reconnect=reconnect
        )

    def s2s_realtime(
        self,
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        send_setup_on_start: bool = True,
        wait_for_ready_on_start: bool = False,
        reconnect: ReconnectPolicy | None = None,
        **setup: Any,
    ) -> S2s:
        """Prepare a real-time session; use it in `async with`.

        Args:
            sample_rate: Rate in Hz of the PCM or the arrays that will be sent, where it is not that of `input_format`;
                they are resampled.
            source_format: Wire format name of the bytes that will be sent, where it is not `input_format`.
            send_setup_on_start: Send `setup` on entering the block.
            wait_for_ready_on_start: Wait for `ready` on entering the block; without it, `ready` is the first message.
            reconnect: When to go on over another connection; None for never. See `ReconnectPolicy`.
            **setup: Fields of the setup, see `S2SSetup`; `input_format` and `output_format` default to "pcm".
        """
        return S2s(
            self,
            sample_rate=sample_rate,
            source_format=source_format,
            send_setup_on_start=send_setup_on_start,
            wait_for_ready_on_start=wait_for_ready_on_start,
            reconnect=reconnect,
            **setup,
        )

    async def s2s_stream(
        self,
        setup: wire.S2SSetup | Mapping[str, Any],
        audio: AudioInput,
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        realtime: bool = False,
        reconnect: ReconnectPolicy | None = None,
    ) -> S2SStream:
        """Open a session over a source of audio and return its output as a stream; see `speech.s2s_stream`."""
        return await speech.s2s_stream(
            self,
            setup,
            audio,
            sample_rate=sample_rate,
            source_format=source_format,
            realtime=realtime,
            reconnect=reconnect,
        )

    async def s2s(
        self,
        setup: wire.S2SSetup | Mapping[str, Any],
        audio: AudioInput,
        sample_rate: int | None = None,
        *,
        source_format: str | None = None,
        realtime: bool = False,
        reconnect: ReconnectPolicy | None = None,
    ) -> S2SResult:
        """Send a whole recording and return the whole answer; see `speech.s2s`."""
        return await speech.s2s(
            self, setup, audio, sample_rate, source_format=source_format, realtime=realtime, reconnect=reconnect
        )

    # --- REST

    async def get(self, route: str, **parts: Any) -> Any:
        """Send a GET and return the JSON of the answer.

        Args:
            route: Below the base URL.
            **parts: `params`, `json`, `data`, `files`, `content` or `headers`, as `httpx.AsyncClient` takes them.

        Raises:
            SessionError: A refusal, a bound that was reached, or no connection; see `rest.Rest.request`.
        """
        return await self.rest.fetch("GET", route, **parts)

    async def put(self, route: str, **parts: Any) -> Any:
        """Send a PUT and return the JSON of the answer; arguments and exceptions as for `get`."""
        return await self.rest.fetch("PUT", route, **parts)

    async def delete(self, route: str, **parts: Any) -> Any:
        """Send a DELETE and return the JSON of the answer, or None; arguments and exceptions as for `get`."""
        return await self.rest.fetch("DELETE", route, **parts)

    async def post(self, route: str, parse: bool = True, **parts: Any) -> Any:
        """Send a POST and return the JSON of the answer, or all of the answer; arguments and exceptions as for `get`.

        With `parse=False` it is an `httpx.Response` whose body has been read.
        """
        return await (self.rest.fetch if parse else self.rest.request)("POST", route, **parts)

    def tts_post(self, text: str, *, voice_id: str, **options: Any) -> AsyncGenerator[bytes, None]:
        """Speak a text over HTTP and yield the audio; see `post.tts`."""
        return post.tts(self, text, voice_id=voice_id, **options)

    def tts_post_events(self, text: str, *, voice_id: str, **options: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Speak a text over HTTP and yield every message; see `post.tts_events`."""
        return post.tts_events(self, text, voice_id=voice_id, **options)

    def stt_post_events(self, audio: Recording, **options: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Recognise a recording over HTTP and yield every message; see `post.stt_events`."""
        return post.stt_events(self, audio, **options)

    async def voice_create(
        self,
        audio_file: str | os.PathLike[str],
        *,
        language: str,
        name: str | None = None,
        description: str | None = None,
        start_s: float = 0.0,
        input_format: str | None = None,
    ) -> dict[str, Any]:
        """Make a voice from a recording; see `voices.create`."""
        return await voices.create(
            self,
            audio_file,
            language=language,
            name=name,
            description=description,
            start_s=start_s,
            input_format=input_format,
        )

    async def voice_get(self, voice_uid: str | None = None, include_catalog: bool = False) -> Any:
        """Return one voice, or a list of all; see `voices.get`."""
        return await voices.get(self, voice_uid, include_catalog)

    async def voice_list(self) -> list[dict[str, Any]]:
        """Return the account's clones."""
        listed: list[dict[str, Any]] = await voices.get(self)
        return listed

    async def voice_update(
        self,
        voice_uid: str,
        name: str | None = None,
        description: str | None = None,
        start_s: float | None = None,
        language: str | None = None,
    ) -> dict[str, Any] | None:
        """Change a voice; see `voices.update`."""
        return await voices.update(self, voice_uid, name, description, start_s, language)

    async def voice_delete(self, voice_uid: str) -> bool:
        """Delete a voice; returns True. See `voices.delete`."""
        return await voices.delete(self, voice_uid)

    async def voice_generate(
        self,
        prompt: str,
        *,
        language: str,
        n_samples: int = 1,
        wait: bool = False,
        timeout: float = 120.0,  # noqa: ASYNC109 - the documented name
        poll_interval: float = 1.0,
    ) -> dict[str, Any]:
        """Design voices from a description; see `voices.generate`."""
        return await voices.generate(
            self,
            prompt,
            language=language,
            n_samples=n_samples,
            wait=wait,
            timeout=timeout,
            poll_interval=poll_interval,
        )

    async def voice_embedding_get(self, embedding_id: str) -> dict[str, Any]:
        """Return the state of a draft; see `voices.embedding_get`."""
        return await voices.embedding_get(self, embedding_id)

    async def voice_embedding_delete(self, embedding_id: str) -> bool:
        """Delete a draft; returns True."""
        return await voices.embedding_delete(self, embedding_id)

    async def voice_tts(
        self,
        embedding_id: str,
        text: str,
        *,
        output_format: str = "wav",
        model_name: str | None = None,
        json_config: Mapping[str, Any] | str | None = None,
    ) -> TTSResult:
        """Speak a short text with a draft; see `voices.tts`."""
        return await voices.tts(
            self, embedding_id, text, output_format=output_format, model_name=model_name, json_config=json_config
        )

    async def voice_from_embedding(
        self, embedding_id: str, *, name: str, description: str | None = None
    ) -> dict[str, Any]:
        """Keep a draft as a voice; see `voices.from_embedding`."""
        return await voices.from_embedding(self, embedding_id, name=name, description=description)

    async def credits(self) -> dict[str, Any]:
        """Return the balance; see `usages.get`."""
        return await usages.get(self)

    async def usage_summary(self) -> dict[str, Any]:
        """Return the totals of usage; see `usages.summary`."""
        return await usages.summary(self)

    async def pronunciation_create(
        self, name: str, rules: Iterable[Mapping[str, Any]], *, language: str, description: str | None = None
    ) -> dict[str, Any]:
        """Make a dictionary; see `pronunciations.create`."""
        return await pronunciations.create(self, name, rules, language=language, description=description)

    async def pronunciation_get(self, uid: str) -> dict[str, Any]:
        """Return a dictionary; see `pronunciations.get`."""
        return await pronunciations.get(self, uid)

    async def pronunciation_list(
        self, *, limit: int = 100, offset: int = 0, language: str | None = None
    ) -> dict[str, Any]:
        """Return some of the dictionaries; see `pronunciations.list_page`."""
        return await pronunciations.list_page(self, limit=limit, offset=offset, language=language)

    async def pronunciation_update(
        self,
        uid: str,
        *,
        name: str | None = None,
        rules: Iterable[Mapping[str, Any]] | None = None,
        language: str | None = None,
        description: str | None = None,
    ) -> dict[str, Any] | None:
        """Change a dictionary; see `pronunciations.update`."""
        return await pronunciations.update(
            self, uid, name=name, rules=rules, language=language, description=description
        )

    async def pronunciation_delete(self, uid: str) -> bool:
        """Delete a dictionary; returns True. See `pronunciations.delete`."""
        return await pronunciations.delete(self, uid)

    async def temporary_token(self) -> TemporaryToken:
        """Return a token that lets one browser in; see `tokens.issue`."""
        return await tokens.issue(self)


def _checked_key(api_key: str) -> str:
    # Keys read from files often end in a newline. The text never names the key.
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise AuthError("expected an API key of printable ASCII characters, got one with others")
    return key


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in {"localhost", "::1", "0.0.0.0"}  # noqa: S104 - compared only


def _websocket_url(base_url: str) -> str:
    if "://" not in base_url:
        host = urlsplit(f"//{base_url}").hostname or ""
        base_url = f"{'http' if _is_loopback(host) else 'https'}://{base_url}"
    url = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(url.scheme)
    try:
        is_usable = scheme is not None and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, or too large
        is_usable = False
    if scheme is None or not is_usable:
        raise ValueError(f"expected a base_url of scheme http, https, ws or wss with a host, got {base_url!r}")
    path = url.path if url.path.endswith("/") else f"{url.path}/"
    return urlunsplit((scheme, url.netloc, path, "", ""))
