"""Who may import whom. A module that is not listed, or an import that is not allowed, fails."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "python" / "speechwire"

CORE = {"_core"}
NEUTRAL = {"errors", "events", "formats"}
# Third-party packages stand after a "+".
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "events": set(),
    "formats": set(),
    "codec": CORE | {"errors"},
    "audioop": CORE | {"errors"},
    "source": {"codec", "errors", "formats", "+numpy"},
    "transport": {"errors", "+websockets"},
    "gradium.wire": CORE | NEUTRAL,
    "gradium.protocol": NEUTRAL | {"gradium.wire"},
    "gradium.rest": {"errors", "gradium.rest_wire", "gradium.wire", "transport", "+httpx"},
    "gradium.rest_wire": {"errors", "gradium.wire"},
    "gradium.post": {
        "errors", "gradium.client", "gradium.protocol", "gradium.rest", "gradium.rest_wire", "gradium.wire", "source",
    },
    "gradium.pronunciations": {"gradium.client", "gradium.rest_wire"},
    "gradium.tokens": {"gradium.client", "gradium.rest_wire"},
    "gradium.usages": {"gradium.client", "gradium.rest_wire"},
    "gradium.voices": {"errors", "gradium.client", "gradium.post", "gradium.rest_wire", "gradium.results"},
    "gradium.results": {"gradium.wire", "+numpy"},
    "gradium.link": {"errors", "gradium.protocol", "gradium.wire", "transport"},
    "gradium.replay": {"audioop", "codec", "errors", "formats", "gradium.wire"},
    "gradium.resume": {"errors", "gradium.link", "gradium.replay", "gradium.wire", "transport"},
    "gradium.stream": {
        "errors", "events", "gradium.client", "gradium.link", "gradium.replay", "gradium.results", "gradium.resume",
        "gradium.wire", "source",
    },
    "gradium.multiplex": {
        "errors", "gradium.client", "gradium.link", "gradium.protocol", "gradium.stream", "gradium.wire", "transport",
    },
    "gradium.speech": {
        "errors", "gradium.client", "gradium.results", "gradium.resume", "gradium.stream", "gradium.wire", "source",
    },
    "gradium.sync": {"gradium.client", "gradium.speech"},
    "gradium.client": {
        "errors", "gradium.link", "gradium.multiplex", "gradium.post", "gradium.pronunciations", "gradium.rest",
        "gradium.results", "gradium.resume", "gradium.speech", "gradium.stream", "gradium.sync", "gradium.tokens",
        "gradium.usages", "gradium.voices", "gradium.wire", "source", "transport",
    },
    "gradium.__init__": {
        "gradium.client", "gradium.multiplex", "gradium.pronunciations", "gradium.results", "gradium.resume",
        "gradium.speech", "gradium.stream", "gradium.tokens", "gradium.usages", "gradium.voices", "gradium.wire",
        "transport",
    },
    "server.__init__": {"server.app", "server.limits"},  # when their names are asked for
    "server.account": set(),
    "server.app": {
        "server.account", "server.dialects.gradium", "server.dialects.gradium_post", "server.dialects.gradium_rest",
        "server.engines", "server.engines.together", "server.limits", "server.metrics", "server.post", "server.rest",
        "server.call", "server.dialects.telephony", "server.session", "server.ticks", "server.websocket",
        "+starlette", "+uvicorn",
    },
    "server.call": {
        "errors", "events", "server.dialects.telephony", "server.engines", "server.engines.together", "server.inbox",
        "server.limits", "server.metrics", "server.onset", "server.request", "server.session", "server.ticks",
        "telephony",
    },
    "server.inbox": {"events"},
    "server.limits": set(),
    "server.metrics": {"events", "server.request", "telephony"},
    "server.onset": {"audioop"},
    "server.post": {
        "server.account", "server.dialects.gradium_post", "server.dialects.gradium_rest", "server.rest",
        "server.session", "+starlette",
    },
    "server.request": {"codec", "events", "formats", "server.engines", "server.voices"},
    "server.rest": {"server.account", "server.dialects.gradium_rest", "+starlette"},
    "server.session": {
        "errors", "events", "server.engines", "server.inbox", "server.limits", "server.metrics", "server.request",
        "server.voices",
    },
    "server.ticks": set(),
    "server.websocket": {"server.session", "+starlette"},
    "server.dialects.__init__": set(),
    "server.dialects.gradium": {"gradium.protocol", "gradium.wire"},
    "server.dialects.gradium_post": {
        "gradium.rest_wire", "gradium.wire", "server.account", "server.dialects.gradium",
        "server.dialects.gradium_rest",
    },
    "server.dialects.gradium_rest": {
        "events", "gradium.rest_wire", "gradium.wire", "server.account", "server.dialects.gradium", "server.voices",
    },
    "server.dialects.telephony": {"events", "server.dialects.gradium"},
    "server.engines.__init__": {"errors", "events", "server.voices"},
    "server.engines.activity": {"events"},
    "server.engines.apertium": {"server.engines", "server.engines.together"},
    "server.engines.gradium": {
        "errors", "events", "gradium.client", "gradium.resume", "gradium.stream", "gradium.wire", "server.engines",
        "server.engines.together", "server.voices",
    },
    "server.engines.loopback": {
        "events", "server.engines", "server.engines.activity", "server.engines.sentences", "server.engines.tones",
        "server.voices",
    },
    "server.engines.local": {
        "events", "server.engines", "server.engines.activity", "server.engines.recognize", "server.engines.sentences",
        "server.engines.stages", "server.engines.synthesize", "server.engines.together", "server.engines.translate",
        "server.voices",
    },
    "server.engines.recognize": {
        "events", "server.engines", "server.engines.stages", "server.engines.together", "server.engines.worker",
    },
    "server.engines.models.__init__": set(),
    "server.engines.models.ctranslate": {
        "server.engines", "server.engines.models.threads", "server.engines.sentences",
    },
    "server.engines.models.names": {
        "server.engines.models.ctranslate", "server.engines.models.piper", "server.engines.models.whisper",
        "server.engines.recognize", "server.engines.stages", "server.engines.synthesize", "server.engines.translate",
    },
    "server.engines.models.piper": {
        "codec", "server.engines", "server.engines.models.threads", "server.engines.sentences",
        "server.engines.stages", "server.voices", "+numpy",
    },
    "server.engines.models.threads": {"server.engines", "server.engines.together"},
    "server.engines.models.utterances": set(),
    "server.engines.models.whisper": {
        "events", "server.engines", "server.engines.models.threads", "server.engines.models.utterances",
        "server.engines.stages", "+numpy",
    },
    "server.engines.recognize_worker": {
        "events", "server.engines.recognize", "server.engines.stages", "server.engines.worker", "+pocketsphinx",
    },
    "server.engines.scenario": {"codec", "errors", "events", "server.engines", "server.engines.schema", "+yaml"},
    "server.engines.schema": set(),
    "server.engines.script": {
        "codec", "events", "formats", "server.engines", "server.engines.activity", "server.engines.loopback",
        "server.engines.scenario", "server.engines.sentences", "server.engines.together", "server.engines.tones",
        "server.voices",
    },
    "server.engines.sentences": {"events"},
    "server.engines.stages": {"events", "server.engines", "server.voices"},
    "server.engines.together": set(),
    "server.engines.tones": set(),
    "server.engines.synthesize": {
        "server.engines", "server.engines.sentences", "server.engines.stages", "server.engines.synthesize_worker",
        "server.engines.together", "server.engines.worker", "server.voices",
    },
    "server.engines.translate": {"server.engines", "server.engines.apertium", "server.engines.sentences"},
    "server.engines.synthesize_worker": {"server.engines", "server.engines.worker", "+espeakng_loader"},
    "server.engines.worker": {"server.engines", "server.engines.together"},
    "server.voices": set(),
    "telephony.__init__": {"telephony.events", "telephony.leg"},
    "telephony.asterisk": {"errors", "events", "formats", "telephony.events", "telephony.framing"},
    "telephony.audiosocket": {"errors", "events", "telephony.events", "telephony.framing"},
    "telephony.events": {"events"},
    "telephony.framing": {"codec", "errors", "events", "formats", "telephony.events"},
    "telephony.inbound": {"codec", "formats", "telephony.framing"},
    "telephony.ledger": set(),
    "telephony.leg": {
        "codec", "errors", "events", "telephony.asterisk", "telephony.audiosocket", "telephony.events",
        "telephony.framing", "telephony.inbound", "telephony.ledger", "telephony.outbound", "telephony.plivo",
        "telephony.telnyx", "telephony.twilio", "telephony.vonage",
    },
    "telephony.outbound": {
        "audioop", "codec", "errors", "formats", "telephony.events", "telephony.framing", "telephony.ledger",
        "telephony.pacer",
    },
    "telephony.pacer": set(),
    "telephony.plivo": {"errors", "events", "formats", "telephony.events", "telephony.framing"},
    "telephony.rtp": {"audioop", "errors", "events", "formats", "telephony.events", "telephony.framing"},
    "telephony.telnyx": {"audioop", "errors", "events", "telephony.events", "telephony.framing"},
    "telephony.twilio": {"errors", "events", "telephony.events", "telephony.framing"},
    "telephony.vonage": {"errors", "events", "telephony.events", "telephony.framing"},
    "cli": {
        "codec", "errors", "gradium", "gradium.client", "gradium.stream", "gradium.wire", "server", "server.engines",
        "server.engines.gradium", "server.engines.local", "server.engines.loopback", "server.engines.models.names",
        "server.engines.script", "server.engines.stages", "server.limits", "+rich",
    },
}  # fmt: skip

# A state machine gets its clock, its randomness and its bytes from outside.
WITHOUT_IO = (
    "gradium.protocol",
    "gradium.replay",
    "gradium.rest_wire",
    "gradium.wire",
    "server.dialects.gradium",
    "server.dialects.gradium_post",
    "server.dialects.gradium_rest",
    "server.dialects.telephony",
    "telephony.asterisk",
    "telephony.audiosocket",
    "telephony.events",
    "telephony.framing",
    "telephony.ledger",
    "telephony.inbound",
    "telephony.leg",
    "telephony.outbound",
    "telephony.pacer",
    "telephony.plivo",
    "telephony.rtp",
    "telephony.telnyx",
    "telephony.twilio",
    "telephony.vonage",
)
IO_MODULES = {"asyncio", "os", "random", "secrets", "select", "socket", "threading", "time", "uuid"}
# What a server computes without waiting for anybody.
SERVER_MODULES_THAT_DO_NOT_WAIT = (
    "server.account", "server.metrics", "server.onset", "server.request", "server.voices",
    "server.dialects.gradium", "server.dialects.gradium_post",
    "server.dialects.gradium_rest", "server.dialects.telephony", "server.engines.activity",
    "server.engines.models.utterances",
    "server.engines.scenario", "server.engines.schema", "server.engines.sentences", "server.engines.tones",
)  # fmt: skip


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                # `from package import module` imports the module.
                dotted = f"{node.module}.{alias.name}"
                is_module = dotted.removeprefix("speechwire.") in MODULES or (
                    f"{dotted.removeprefix('speechwire.')}.__init__" in MODULES
                )
                found.add(dotted if node.module.startswith("speechwire") and is_module else node.module)
            if node.module == "speechwire":
                found.discard("speechwire")
    return found


def test_every_module_has_a_row() -> None:
    assert set(MODULES) == set(ALLOWED)


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_imports_are_allowed(module: str) -> None:
    for name in imports(MODULES[module]):
        top = name.partition(".")[0]
        if top == "speechwire":
            assert name.removeprefix("speechwire.") in ALLOWED[module], f"{module} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert f"+{top}" in ALLOWED[module], f"{module} imports {name}"


@pytest.mark.parametrize("module", WITHOUT_IO)
def test_state_machines_do_no_io(module: str) -> None:
    assert not {name.partition(".")[0] for name in imports(MODULES[module])} & IO_MODULES


@pytest.mark.parametrize("module", SERVER_MODULES_THAT_DO_NOT_WAIT)
def test_what_only_computes_does_not_wait(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree))
