"""The command line: `speechwire translate`, `transcribe`, `speak` and `serve`.

Exit codes: 0 done, 1 failed (one line on standard error says why and what to do), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from speechwire.codec import WavReader, WavWriter, build_info
from speechwire.errors import SpeechwireError
from speechwire.gradium import GradiumClient, Limits, wire
from speechwire.gradium.client import KEY_VARIABLE
from speechwire.server.engines.models.names import (
    RECOGNIZERS,
    SYNTHESIZERS,
    TRANSLATORS,
    recognizer_named,
    synthesizer_named,
    translator_named,
)
from speechwire.server.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from speechwire.gradium.stream import S2SStream, TTSStream
    from speechwire.server.engines import Engine
    from speechwire.server.engines.stages import Recognizer, Synthesizer, Translator

__all__ = ["main"]

T = TypeVar("T")

ENGINES: Final = ("loopback", "local", "script", "gradium")
MAX_PORT: Final = 65535
SENTENCE_ENDS: Final = (".", "!", "?", "…")


class CommandError(Exception):
    """A command cannot be carried out; the text is what the user reads."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is _serve and (arguments.engine == "script") != (arguments.script is not None):
        parser.error("expected --engine script and --script FILE together, got one of them")
    if arguments.command is _serve and arguments.engine != "local" and (arguments.stt or arguments.mt or arguments.tts):
        parser.error(f"expected --engine local with --stt, --mt and --tts, got {arguments.engine}")
    if arguments.command is _serve and arguments.engine != "gradium" and arguments.upstream is not None:
        parser.error(f"expected --engine gradium with --upstream, got {arguments.engine}")
    try:
        asyncio.run(arguments.command(arguments))
    except KeyboardInterrupt:
        return 130
    except (CommandError, SpeechwireError, ValueError) as error:
        sys.stderr.write(f"speechwire: {error}\n")
        return 1
    except OSError as error:
        what = error.strerror or str(error)
        sys.stderr.write(f"speechwire: {what if error.filename is None else f'{error.filename}: {what}'}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="speechwire", description="Stream speech through translation services.")
    parser.add_argument("--version", action="version", version=f"speechwire {build_info()['version']}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    translate = commands.add_parser("translate", help="translate the speech in a WAV file")
    translate.add_argument("input", type=Path, metavar="IN.wav")
    translate.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.wav")
    translate.add_argument("--to", required=True, choices=wire.LANGUAGES, help="language of the output")
    translate.add_argument("--voice", metavar="ID", help="voice of the output; default: one of the language")
    translate.set_defaults(command=_translate)

    transcribe = commands.add_parser("transcribe", help="write down the speech in a WAV file")
    transcribe.add_argument("input", type=Path, metavar="IN.wav")
    transcribe.add_argument("--language", choices=wire.LANGUAGES, help="language of the speech; default: recognised")
    transcribe.add_argument("--json", action="store_true", help="one JSON object a line: text, start_s, stop_s")
    transcribe.set_defaults(command=_transcribe)

    speak = commands.add_parser("speak", help="speak a text into a WAV file")
    speak.add_argument("text", metavar="TEXT", help='what to say; "-" reads standard input')
    speak.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.wav")
    speak.add_argument("--language", choices=wire.LANGUAGES, default="en", help="default: %(default)s")
    speak.add_argument("--voice", metavar="ID", help="default: one of the language")
    speak.set_defaults(command=_speak)

    for command in (translate, transcribe, speak):
        command.add_argument("--url", help="service to use, such as http://127.0.0.1:8000/api; default: see --api-key")
        command.add_argument(
            "--api-key",
            help=f"key of the service; default: ${KEY_VARIABLE}. With neither a key nor --url, the offline server "
            "inside this program does the work",
        )
    for command in (translate, transcribe):
        command.add_argument(
            "--realtime",
            action=argparse.BooleanOptionalAction,
            help="send at the speed of speech; default: yes, except to the offline server",
        )

    serve = commands.add_parser(
        "serve",
        help="run the local server",
        description="Run the local server: Gradium's services below BASE_PATH, and interpreted telephone calls at "
        "BASE_PATH/telephony/twilio, telnyx, plivo, vonage and chan_websocket.",
    )
    serve.add_argument("--engine", choices=ENGINES, default="local", help="what answers; default: %(default)s")
    serve.add_argument("--script", type=Path, metavar="FILE", help="what `--engine script` says, in JSON or YAML")
    serve.add_argument(
        "--upstream",
        metavar="URL",
        help=f"service that `--engine gradium` forwards to, with the key in ${KEY_VARIABLE}; default: {wire.BASE_URL}",
    )
    for flag, what, type_, names in (
        ("--stt", "recognises speech", _stage(recognizer_named), RECOGNIZERS),
        ("--mt", "translates", _stage(translator_named), TRANSLATORS),
        ("--tts", "speaks", _stage(synthesizer_named), SYNTHESIZERS),
    ):
        listed = ", ".join(map(str, names))
        serve.add_argument(
            flag,
            type=type_,
            metavar="NAME[:PATH]",
            help=f"what {what} in the engine local: {listed}; default: the first",
        )
    serve.add_argument("--host", default="127.0.0.1", help="address to bind; default: %(default)s")
    serve.add_argument("--port", type=_port, default=8000, help="0 picks a free one; default: %(default)s")
    serve.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="key to let in, repeatable; default: all"
    )
    serve.add_argument(
        "--base-path", default="/api", help='what stands before every route, may be ""; default: %(default)s'
    )
    serve.add_argument(
        "--max-session",
        type=_seconds,
        default=DEFAULT_LIMITS.max_session_s,
        metavar="SECONDS",
        help="longest request; default: %(default)g",
    )
    serve.add_argument(
        "--max-call",
        type=_seconds,
        default=DEFAULT_LIMITS.max_call_s,
        metavar="SECONDS",
        help="longest telephone call; default: %(default)g",
    )
    serve.add_argument(
        "--max-requests", type=_count, metavar="N", help="requests that run at once; default: any number"
    )
    serve.add_argument(
        "--max-recognitions",
        type=_count,
        metavar="N",
        help="those of them that recognise speech; default: as many as the engine can serve in real time",
    )
    serve.set_defaults(command=_serve)
    return parser


def _stage(named: Callable[[str], T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            return named(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {MAX_PORT}, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 up, got {text!r}")
    return int(text)


async def _translate(arguments: argparse.Namespace) -> None:
    speech = arguments.input.read_bytes()
    duration_s = _wav_duration_s(speech)
    async with _service(arguments, f"translating offline, inside this program, to {arguments.to!r}") as client:
        stream = await client.s2s_stream(
            {
                "input_format": "pcm",
                "output_format": "pcm",
                "voice_id": arguments.voice or wire.DEFAULT_VOICES[arguments.to],
                "json_config": {"target_language": arguments.to},
            },
            speech,
            source_format=wire.WAV,
            realtime=_is_realtime(arguments),
        )
        started = time.monotonic()
        num_samples = await _write_output(stream, arguments.output, duration_s, show_text=True)
    seconds = num_samples / wire.OUTPUT_PCM_SAMPLE_RATE
    sys.stdout.write(
        f"{arguments.output}: {seconds:.2f} s, {wire.OUTPUT_PCM_SAMPLE_RATE} Hz mono, "
        f"from {duration_s:.2f} s in {time.monotonic() - started:.2f} s\n"
    )


async def _transcribe(arguments: argparse.Namespace) -> None:
    speech = arguments.input.read_bytes()
    duration_s = _wav_duration_s(speech)
    async with _service(arguments, "transcribing offline, inside this program") as client:
        setup: dict[str, Any] = {"input_format": "pcm"}
        if arguments.language is not None:
            setup["json_config"] = {"language": arguments.language}
        stream = await client.stt_stream(setup, speech, source_format=wire.WAV, realtime=_is_realtime(arguments))
        separator = ""
        with _progress(duration_s) as show:
            async for text in stream.iter_text():
                if arguments.json:
                    fields = {"text": text.text, "start_s": text.start_s, "stop_s": text.stop_s}
                    sys.stdout.write(f"{json.dumps(fields, ensure_ascii=False)}\n")
                else:
                    sys.stdout.write(f"{separator}{text.text}")
                    separator = " "
                sys.stdout.flush()
                show(stream.sent_ms / 1000)
    if separator:
        sys.stdout.write("\n")


async def _speak(arguments: argparse.Namespace) -> None:
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
    if not text.strip():
        raise CommandError(f"expected a text to speak, got {text!r}")
    async with _service(arguments, f"speaking offline, inside this program, in {arguments.language!r}") as client:
        setup = {
            "output_format": "pcm",
            "voice_id": arguments.voice or wire.DEFAULT_VOICES[arguments.language],
            "json_config": {"language": arguments.language},
        }
        started = time.monotonic()
        stream = await client.tts_stream(setup, text)
        num_samples = await _write_output(stream, arguments.output, 0.0, show_text=False)
    seconds = num_samples / wire.OUTPUT_PCM_SAMPLE_RATE
    sys.stdout.write(
        f"{arguments.output}: {seconds:.2f} s, {wire.OUTPUT_PCM_SAMPLE_RATE} Hz mono, "
        f"in {time.monotonic() - started:.2f} s\n"
    )


def _is_embedded(arguments: argparse.Namespace) -> bool:
    return arguments.url is None and not (arguments.api_key or os.environ.get(KEY_VARIABLE))


def _is_realtime(arguments: argparse.Namespace) -> bool:
    return not _is_embedded(arguments) if arguments.realtime is None else arguments.realtime


@contextlib.asynccontextmanager
async def _service(arguments: argparse.Namespace, what: str) -> AsyncIterator[GradiumClient]:
    """Yield a client of the service that the arguments name, or of the offline server, which then says `what`."""
    api_key = arguments.api_key or os.environ.get(KEY_VARIABLE)
    async with contextlib.AsyncExitStack() as stack:
        if _is_embedded(arguments):
            sys.stderr.write(f"no --url and no key: {what}\n")
            base_url = f"{await stack.enter_async_context(_import_serve()(_engine('local')))}/api/"
        else:
            base_url = arguments.url or wire.BASE_URL
        yield GradiumClient(base_url=base_url, api_key=api_key or "local")


async def _write_output(stream: S2SStream | TTSStream, path: Path, duration_s: float, *, show_text: bool) -> int:
    # Under its own name only when it is whole; a failure leaves an older file as it was.
    partial = path.with_name(f"{path.name}.part")
    try:
        num_bytes = await _write_partial(stream, partial, duration_s, show_text=show_text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_bytes // 2


async def _write_partial(stream: S2SStream | TTSStream, path: Path, duration_s: float, *, show_text: bool) -> int:
    num_bytes = 0
    sentence: list[dict[str, Any]] = []
    with path.open("wb") as file, _progress(duration_s) as show:
        writer = WavWriter(wire.OUTPUT_PCM_SAMPLE_RATE)
        async for message in stream.iter_events():
            if message["type"] == wire.AUDIO:
                num_bytes += len(message["audio"])
                file.write(writer.feed(message["audio"]))
            elif message["type"] == wire.TEXT and show_text:
                sentence.append(message)
                if message["text"].endswith(SENTENCE_ENDS):
                    _show_sentence(sentence)
            show(stream.sent_ms / 1000)
        _show_sentence(sentence)
        # Now that the length is known, the header can say it.
        file.seek(0)
        file.write(WavWriter(wire.OUTPUT_PCM_SAMPLE_RATE, data_bytes=num_bytes).header)
    return num_bytes


def _show_sentence(words: list[dict[str, Any]]) -> None:
    """Write the words on a line, with the time of the first, and forget them."""
    if words:
        sys.stdout.write(f"[{words[0]['start_s']:6.2f} s] {' '.join(word['text'] for word in words)}\n")
        sys.stdout.flush()
        words.clear()


@contextlib.contextmanager
def _progress(duration_s: float) -> Iterator[Callable[[float], None]]:
    """Yield a function that shows the seconds of audio sent: a bar on a terminal, nothing elsewhere."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        yield lambda _: None
        return
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task("sending", total=duration_s)
        yield lambda sent_s: progress.update(task, completed=sent_s)


async def _serve(arguments: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await _serve_until_cancelled(arguments)


async def _serve_until_cancelled(arguments: argparse.Namespace) -> None:
    serve = _import_serve()
    from speechwire.server import ServerLimits

    # How telephone calls ended is logged at INFO, which uvicorn must not be: it prints addresses, and keys in them.
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("speechwire.server").setLevel(logging.INFO)
    async with serve(
        _engine(arguments.engine, arguments.script, arguments.stt, arguments.mt, arguments.tts, arguments.upstream),
        host=arguments.host,
        port=arguments.port,
        api_keys=arguments.api_key,
        base_path=arguments.base_path,
        limits=ServerLimits(
            max_session_s=arguments.max_session,
            max_call_s=arguments.max_call,
            max_requests=arguments.max_requests,
            max_recognitions=arguments.max_recognitions,
        ),
    ) as address:
        sys.stdout.write(f"listening on {address}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def _import_serve() -> Callable[..., contextlib.AbstractAsyncContextManager[str]]:
    try:
        from speechwire.server import serve
    except ModuleNotFoundError as error:
        raise CommandError(f"the server needs {error.name}: pip install 'speechwire[server]'") from error
    return serve


def _engine(
    name: str,
    script: Path | None = None,
    recognizer: Recognizer | None = None,
    translator: Translator | None = None,
    synthesizer: Synthesizer | None = None,
    upstream: str | None = None,
) -> Engine:
    if name == "gradium":
        from speechwire.server.engines.gradium import GradiumEngine

        # A speaker may pause for longer than a service may be silent otherwise; pings find the one that is gone.
        return GradiumEngine(GradiumClient(base_url=upstream or wire.BASE_URL, limits=Limits(idle_s=None)))
    if script is not None:
        from speechwire.server.engines.script import ScriptEngine

        return ScriptEngine(script)
    if name == "loopback":
        from speechwire.server.engines.loopback import LoopbackEngine

        return LoopbackEngine()
    from speechwire.server.engines.local import LocalEngine

    return LocalEngine(recognizer, translator, synthesizer)


def _wav_duration_s(wav: bytes) -> float:
    reader = WavReader()
    num_bytes = len(reader.feed(wav))
    reader.close()
    assert reader.num_channels is not None  # close has checked it
    assert reader.sample_rate is not None
    return num_bytes / (2 * reader.num_channels * reader.sample_rate)


if __name__ == "__main__":
    sys.exit(main())
