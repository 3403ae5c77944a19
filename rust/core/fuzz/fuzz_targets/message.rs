//! A message is parsed or refused, and audio that was decoded encodes to the same base64.

#![no_main]

use libfuzzer_sys::fuzz_target;
use speechwire_core::message::{AudioFields, Value, decode_message, encode_audio_message};

const FIELDS: AudioFields<'_> =
    AudioFields { message_type: ("type", "audio"), audio: "audio", request_id: "client_req_id" };

fn audio_of(text: &[u8]) -> Option<Vec<u8>> {
    let fields = decode_message(text, FIELDS.audio).ok()?;
    let base64 = fields.into_iter().find_map(|(_, value)| match value {
        Value::Audio(base64) => Some(base64),
        _ => None,
    })?;
    let mut audio = vec![0; base64.decoded_bytes().ok()?];
    base64.decode_into(&mut audio).ok()?;
    Some(audio)
}

fuzz_target!(|text: &[u8]| {
    if let Some(audio) = audio_of(text) {
        assert_eq!(audio_of(encode_audio_message(&FIELDS, &audio, None).as_bytes()), Some(audio));
    }
    let id = String::from_utf8_lossy(text);
    assert!(audio_of(encode_audio_message(&FIELDS, text, Some(&id)).as_bytes()).as_deref() == Some(text));
});
