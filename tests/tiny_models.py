"""The smallest models that say something known, in the forms that the real ones have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["WHISPER_TEXT", "make_argos_package", "make_opus_model", "make_piper_voice", "make_whisper_model"]

Floats = npt.NDArray[np.float32]

SPECIAL = ("<unk>", "<s>", "</s>")
# Longest sentence, in words.
NUM_POSITIONS = 16
# What a tiny Whisper hears in every utterance, a word each half second.
WHISPER_TEXT = ("Good", "morning", "there.")
WHISPER_LANGUAGES = ("en", "es", "fr", "de", "pt")
# A model counts as multilingual if it has so many tokens, and, for later versions, an empty one among them.
MULTILINGUAL_TOKENS = 51865
FRAMES_PER_WORD = 25  # of 20 ms
SILENT_SAMPLES = 2000


def make_opus_model(folder: Path, words: Mapping[str, str], *, adds_source_eos: bool = False) -> Path:
    """Write a converted OPUS-MT model that translates word by word, and copies words that it does not know."""
    _make_translator(folder, words, adds_source_eos=adds_source_eos)
    (folder / "source.spm").write_bytes(_word_pieces(list(words)))
    (folder / "target.spm").write_bytes(_word_pieces(list(words.values())))
    return folder


def make_argos_package(folder: Path, source: str, target: str, words: Mapping[str, str]) -> Path:
    """Write an unpacked package of Argos Translate that translates word by word."""
    _make_translator(folder / "model", words, adds_source_eos=True)
    (folder / "sentencepiece.model").write_bytes(_word_pieces([*words, *words.values()]))
    metadata = {"package_version": "1.0", "argos_version": "1.0", "from_code": source, "to_code": target}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def make_whisper_model(folder: Path, *, is_multilingual: bool) -> Path:
    """Write a Whisper model in CTranslate2's form that hears WHISPER_TEXT in everything."""
    from ctranslate2.specs import WhisperSpec

    tokens = _write_whisper_tokenizer(folder, is_multilingual=is_multilingual)
    depth = 32
    spec = WhisperSpec(1, 1, 1, 1)
    encoder, decoder = spec.encoder, spec.decoder
    for conv, shape in ((encoder.conv1, (depth, 80, 3)), (encoder.conv2, (depth, depth, 3))):
        conv.weight, conv.bias = _zeros(*shape), _zeros(depth)
    # The encoder says when it is, in half seconds; it does not listen.
    encoder.position_encodings.encodings = np.eye(depth, dtype=np.float32)[
        np.minimum(np.arange(1500) // FRAMES_PER_WORD, depth - 1)
    ]
    _fill_layer(encoder.layer[0], depth)
    _fill_norm(encoder.layer_norm, depth)
    # The decoder knows what to say from where it is, and looks at the half second that belongs to it.
    decoder.embeddings.weight = _zeros(len(tokens), depth)
    decoder.position_encodings.encodings = np.eye(depth, dtype=np.float32)[np.minimum(np.arange(448), depth - 1)]
    _fill_layer(decoder.layer[0], depth)
    _fill_norm(decoder.layer_norm, depth)
    num_prompt = 4 if is_multilingual else 2
    attention = decoder.layer[0].attention
    attention.linear[0].weight = 100 * np.eye(depth, k=num_prompt - 1, dtype=np.float32)
    attention.linear[1].weight = np.concatenate([np.eye(depth, dtype=np.float32), _zeros(depth, depth)])
    decoder.projection.weight = _zeros(len(tokens), depth)
    said = [f"\u0120{word}" for word in WHISPER_TEXT] + ["<|endoftext|>"] * depth
    for position in range(num_prompt - 1, depth):
        decoder.projection.weight[tokens.index(said[position - num_prompt + 1]), position] = 1.0
    spec.register_vocabulary(tokens)
    spec.config.alignment_heads = [(0, 0)]
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [tokens.index(f"<|{language}|>") for language in WHISPER_LANGUAGES if is_multilingual]
    _save(spec, folder)
    return folder


def make_piper_voice(file: Path, espeak_voice: str, sample_rate: int, *, samples_per_phoneme: int) -> Path:
    """Write a voice of Piper that hums for so many samples at each phoneme, times the scale of length.

    SILENT_SAMPLES of silence stand before that.
    """
    from onnx import TensorProto, helper, save_model

    # output[0, 0] = silence, then 0.5 for input_lengths * scales[1] * samples_per_phoneme samples
    nodes = [
        helper.make_node("Cast", ["input_lengths"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "one"], ["scale"]),
        helper.make_node("Mul", ["length", "scale"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "hop"], ["num_samples"]),
        helper.make_node("Cast", ["num_samples"], ["count"], to=TensorProto.INT64),
        helper.make_node("Concat", ["ones", "count"], ["shape"], axis=0),
        helper.make_node("Expand", ["level", "shape"], ["hum"]),
        helper.make_node("Concat", ["silence", "hum"], ["output"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "voice",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "channels", "samples"])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("hop", TensorProto.FLOAT, [1], [float(samples_per_phoneme)]),
            helper.make_tensor("ones", TensorProto.INT64, [2], [1, 1]),
            helper.make_tensor("silence", TensorProto.FLOAT, [1, 1, SILENT_SAMPLES], [0.0] * SILENT_SAMPLES),
            helper.make_tensor("level", TensorProto.FLOAT, [1, 1, 1], [0.5]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, str(file))
    # Every letter of the phonetic alphabet is the same phoneme to it.
    phonemes = {chr(code): [3] for code in (*range(0x20, 0x250), *range(0x250, 0x370))}
    settings = {
        "audio": {"sample_rate": sample_rate},
        "espeak": {"voice": espeak_voice},
        "num_symbols": 4,
        "num_speakers": 1,
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_id_map": phonemes | {"_": [0], "^": [1], "$": [2]},
    }
    file.with_name(f"{file.name}.json").write_text(json.dumps(settings))
    return file


def _make_translator(folder: Path, words: Mapping[str, str], *, adds_source_eos: bool) -> None:
    """Write a Transformer that looks at the source word of its own position and says the word that belongs to it."""
    from ctranslate2.specs import TransformerSpec

    source = [*SPECIAL, *(f"\u2581{word}" for word in words)]
    target = [*SPECIAL, *dict.fromkeys(f"\u2581{word}" for word in words.values())]
    num_words = len(source)
    depth = num_words + NUM_POSITIONS
    spec = TransformerSpec.from_config(1, 1, pre_norm=True)
    for side in (spec.encoder, spec.decoder):
        side.scale_embeddings = False
        # Hypotheses that are not taken in the end go on for longer than any sentence.
        side.position_encodings.encodings = np.eye(512, depth, k=num_words, dtype=np.float32)
        _fill_layer(side.layer[0], depth)
        _fill_norm(side.layer_norm, depth)
    spec.encoder.embeddings[0].weight = np.eye(num_words, depth, dtype=np.float32)
    spec.decoder.embeddings.weight = _zeros(len(target), depth)
    identity = np.eye(depth, dtype=np.float32)
    words_alone, positions_alone = identity.copy(), identity.copy()
    words_alone[num_words:] = 0.0
    positions_alone[:num_words] = 0.0
    attention = spec.decoder.layer[0].attention
    attention.linear[0].weight = 20 * positions_alone
    attention.linear[1].weight = np.concatenate([positions_alone, words_alone])
    attention.linear[2].weight = identity
    spec.decoder.projection.weight = _zeros(len(target), depth)
    for number, token in enumerate(source):
        said = token if token in SPECIAL else f"\u2581{words[token[1:]]}"
        spec.decoder.projection.weight[target.index(said), number] = 1.0
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    spec.config.add_source_eos = adds_source_eos
    spec.config.decoder_start_token = "</s>"
    _save(spec, folder)


def _fill_layer(layer: Any, depth: int) -> None:
    """Let a layer add nothing to what comes in."""
    attentions = [layer.self_attention] + ([layer.attention] if hasattr(layer, "attention") else [])
    for attention in attentions:
        _fill_norm(attention.layer_norm, depth)
        # Queries, keys and values in one matrix, or queries, keys with values; and the output.
        sizes = (3 * depth, depth) if len(attention.linear) == 2 else (depth, 2 * depth, depth)
        for linear, size in zip(attention.linear, sizes, strict=True):
            linear.weight, linear.bias = _zeros(size, depth), _zeros(size)
    _fill_norm(layer.ffn.layer_norm, depth)
    for linear in (layer.ffn.linear_0, layer.ffn.linear_1):
        linear.weight, linear.bias = _zeros(depth, depth), _zeros(depth)


def _fill_norm(norm: Any, depth: int) -> None:
    norm.gamma, norm.beta = np.ones(depth, np.float32), _zeros(depth)


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


def _save(spec: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


def _word_pieces(words: Sequence[str]) -> bytes:
    """A SentencePiece model whose pieces are whole words."""
    from sentencepiece import SentencePieceTrainer

    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words)]),
        model_writer=model,
        model_type="word",
        vocab_size=len(set(words)) + len(SPECIAL),
        minloglevel=2,
    )
    return model.getvalue()


def _write_whisper_tokenizer(folder: Path, *, is_multilingual: bool) -> list[str]:
    """Write tokenizer.json and return the tokens in the order of their ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    text = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"\u0120{word}" for word in WHISPER_TEXT)]
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{language}|>" for language in WHISPER_LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *(f"<|{number * 0.02:.2f}|>" for number in range(1501)),
    ]
    if is_multilingual:
        text += ["", *(f"filler{number}" for number in range(1, MULTILINGUAL_TOKENS - len(text) - len(special)))]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(text)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return [*text, *special]
