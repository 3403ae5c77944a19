//! JSON messages with one base64 audio field. The names of the fields come from the caller.
//!
//! The parser is strict: RFC 8259, one object, UTF-8, no NaN, nothing behind the object. It borrows what it can from
//! the text, and the audio field is searched and decoded without looking at each of its characters as JSON.

use crate::{Error, Result};
use base64_turbo::STANDARD;
use std::borrow::Cow;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 128;
/// Room for the fields of most messages.
const USUAL_FIELDS: usize = 8;
/// Up to here a string is looked at byte by byte, which takes less than to call the search.
const SHORT_BYTES: usize = 48;

/// The names in an audio message.
#[derive(Clone, Copy, Debug)]
pub struct AudioFields<'a> {
    /// The name and the value of the field that tells the message's type.
    pub message_type: (&'a str, &'a str),
    /// The name of the field with the base64 audio.
    pub audio: &'a str,
    /// The name of the field with the id of the client's request.
    pub request_id: &'a str,
}

/// A value of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent, as it is written.
    Integer(&'a str),
    /// A number with fraction or exponent; too large a number is infinite.
    Float(f64),
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object in the order of the text, duplicates included.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// The audio field, still to be decoded.
    Audio(Base64<'a>),
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) | Self::Audio(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The fields of an object in the order of the text.
pub type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Base64 text of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Base64<'a> {
    text: Cow<'a, [u8]>,
    /// Where the text starts in the message.
    position: usize,
}

impl Base64<'_> {
    /// Return how many bytes the text decodes to; an error if its length is wrong.
    pub fn decoded_bytes(&self) -> Result<usize> {
        let num_padding = self.text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        if self.text.len().is_multiple_of(4) { Ok(self.text.len() / 4 * 3 - num_padding) } else { Err(self.error()) }
    }

    /// Decode to `output`, which has [`Base64::decoded_bytes`] bytes.
    pub fn decode_into(&self, output: &mut [u8]) -> Result<()> {
        let num_whole = self.text.len().saturating_sub(1) / 4 * 4;
        let (text, last) = self.text.split_at(num_whole);
        let (bytes, last_bytes) = output.split_at_mut(num_whole / 4 * 3);
        // The decoder asks for room for three bytes, which the last one to three of them need not have.
        let mut quantum = [0; 3];
        match (STANDARD.decode_slice(text, bytes), STANDARD.decode_slice(last, &mut quantum)) {
            (Ok(num_bytes), Ok(num_last)) if num_bytes == bytes.len() && num_last == last_bytes.len() => {
                last_bytes.copy_from_slice(&quantum[..num_last]);
                Ok(())
            }
            _ => Err(self.error()),
        }
    }

    /// Say what is wrong with a text that could not be decoded.
    fn error(&self) -> Error {
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let num_letters = self.text.iter().take_while(|byte| is_letter(byte)).count();
        let (expected, got, at) = match self.text.get(num_letters) {
            Some(byte) if *byte != b'=' => ("base64 characters", describe(*byte), num_letters),
            _ if !self.text.len().is_multiple_of(4) => {
                ("base64 of a multiple of 4 characters", format!("{} characters", self.text.len()), 0)
            }
            _ => ("base64 with canonical padding", "other padding".to_owned(), num_letters),
        };
        Error::Base64 { expected, got, position: self.position + at }
    }
}

/// The message for a chunk of audio: JSON in ASCII, whose length is known before it is written.
#[derive(Clone, Debug)]
pub struct AudioMessage<'a> {
    head: String,
    audio: &'a [u8],
    tail: String,
}

impl<'a> AudioMessage<'a> {
    /// Build all of the message but its audio.
    #[must_use]
    pub fn new(fields: &AudioFields<'_>, audio: &'a [u8], request_id: Option<&str>) -> Self {
        let (type_name, type_value) = fields.message_type;
        let (mut head, mut tail) = (String::with_capacity(64), String::new());
        head.push('{');
        push_string(&mut head, type_name);
        head.push(':');
        push_string(&mut head, type_value);
        head.push(',');
        push_string(&mut head, fields.audio);
        head.push_str(":\"");
        if let Some(request_id) = request_id {
            tail.push_str("\",");
            push_string(&mut tail, fields.request_id);
            tail.push(':');
            push_string(&mut tail, request_id);
            tail.push('}');
        } else {
            tail.push_str("\"}");
        }
        Self { head, audio, tail }
    }

    /// Return how many bytes the message has.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.head.len() + STANDARD.encoded_len(self.audio.len()) + self.tail.len()
    }

    /// Write the message, which is ASCII, to `output`.
    ///
    /// # Panics
    ///
    /// If `output` has not [`AudioMessage::num_bytes`] bytes.
    pub fn write_into(&self, output: &mut [u8]) {
        let (head, output) = output.split_at_mut(self.head.len());
        let (base64, tail) = output.split_at_mut(output.len() - self.tail.len());
        head.copy_from_slice(self.head.as_bytes());
        tail.copy_from_slice(self.tail.as_bytes());
        assert_eq!(STANDARD.encode_slice(self.audio, base64), Ok(base64.len()));
    }
}

/// Return the message for a chunk of audio.
#[must_use]
pub fn encode_audio_message(fields: &AudioFields<'_>, audio: &[u8], request_id: Option<&str>) -> String {
    let message = AudioMessage::new(fields, audio, request_id);
    let num_bytes = message.num_bytes();
    let mut text = message.head;
    text.reserve_exact(num_bytes - text.len());
    STANDARD.encode_string(audio, &mut text);
    text.push_str(&message.tail);
    text
}

/// Append a JSON string, with everything that is not ASCII escaped so that the message is ASCII.
fn push_string(message: &mut String, text: &str) {
    message.push('"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        message.push_str(text);
        message.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' => message.push_str("\\\""),
            '\\' => message.push_str("\\\\"),
            ' '..='~' => message.push(character),
            '\n' => message.push_str("\\n"),
            '\r' => message.push_str("\\r"),
            '\t' => message.push_str("\\t"),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    push_unit(message, *unit);
                }
            }
        }
    }
    message.push('"');
}

fn push_unit(message: &mut String, unit: u16) {
    message.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(unit >> shift & 15);
        message.extend(char::from_digit(digit, 16));
    }
}

/// Parse a message, which is one JSON object.
///
/// The field of the name `audio_field` at the top has to be a string and is returned as [`Value::Audio`]; it is
/// checked when it is decoded. If that field comes more than once, only the last one is returned.
pub fn decode_message<'a>(text: &'a [u8], audio_field: &str) -> Result<Fields<'a>> {
    let mut parser = Parser { text, position: 0, audio_field };
    parser.skip_whitespace();
    if parser.peek() != Some(b'{') {
        return Err(parser.error("a JSON object"));
    }
    let mut fields = parser.parse_object(0)?;
    parser.skip_whitespace();
    if parser.position < text.len() {
        return Err(parser.error("the end of the message"));
    }
    let Some(last) = fields.iter().rposition(|(name, _)| name == audio_field) else {
        return Ok(fields);
    };
    if !matches!(fields[last].1, Value::Audio(_)) {
        let got = format!("{} in {audio_field:?}", fields[last].1.kind());
        return Err(Error::Json { expected: "a base64 string", got, position: 0 });
    }
    if let Some(first) = fields[..last].iter().position(|(name, _)| name == audio_field) {
        fields.swap(first, last);
        let mut index = 0;
        fields.retain(|(name, _)| {
            index += 1;
            index - 1 == first || name != audio_field
        });
    }
    Ok(fields)
}

struct Parser<'a, 'n> {
    text: &'a [u8],
    position: usize,
    audio_field: &'n str,
}

impl<'a> Parser<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.position += 1;
        }
    }

    fn error(&self, expected: &'static str) -> Error {
        let got = self.peek().map_or_else(|| "the end".to_owned(), describe);
        Error::Json { expected, got, position: self.position }
    }

    fn parse_value(&mut self, depth: usize) -> Result<Value<'a>> {
        match self.peek() {
            Some(b'"') => self.parse_string().map(Value::String),
            Some(b'{') => self.parse_object(depth).map(Value::Object),
            Some(b'[') => self.parse_array(depth).map(Value::Array),
            Some(b'-' | b'0'..=b'9') => self.parse_number(),
            Some(b't') => self.parse_word(b"true", Value::Bool(true)),
            Some(b'f') => self.parse_word(b"false", Value::Bool(false)),
            Some(b'n') => self.parse_word(b"null", Value::Null),
            _ => Err(self.error("a value")),
        }
    }

    fn parse_word(&mut self, word: &[u8], value: Value<'a>) -> Result<Value<'a>> {
        if !self.text[self.position..].starts_with(word) {
            return Err(self.error("a value"));
        }
        self.position += word.len();
        Ok(value)
    }

    /// Step into an array or object, whose first character stands at the position.
    fn open(&mut self, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(self.error("at most 128 levels of nesting"));
        }
        self.position += 1;
        self.skip_whitespace();
        Ok(())
    }

    fn parse_object(&mut self, depth: usize) -> Result<Fields<'a>> {
        self.open(depth)?;
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(fields);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("a field name"));
            }
            let name = self.parse_string()?;
            self.skip_whitespace();
            if self.peek() != Some(b':') {
                return Err(self.error("':'"));
            }
            self.position += 1;
            self.skip_whitespace();
            let is_audio = depth == 0 && self.peek() == Some(b'"') && name == self.audio_field;
            let value = if is_audio { Value::Audio(self.parse_base64()?) } else { self.parse_value(depth + 1)? };
            fields.push((name, value));
            self.skip_whitespace();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b'}') => {
                    self.position += 1;
                    return Ok(fields);
                }
                _ => return Err(self.error("',' or '}'")),
            }
            self.skip_whitespace();
        }
    }

    fn parse_array(&mut self, depth: usize) -> Result<Vec<Value<'a>>> {
        self.open(depth)?;
        let mut values = Vec::new();
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(values);
        }
        loop {
            values.push(self.parse_value(depth + 1)?);
            self.skip_whitespace();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b']') => {
                    self.position += 1;
                    return Ok(values);
                }
                _ => return Err(self.error("',' or ']'")),
            }
            self.skip_whitespace();
        }
    }

    fn parse_number(&mut self) -> Result<Value<'a>> {
        let start = self.position;
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.skip_digits()?;
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.position += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_integer = false;
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.skip_digits()?;
        }
        let number = self.str_from(start)?;
        if is_integer {
            return Ok(Value::Integer(number));
        }
        number.parse().map(Value::Float).map_err(|_| self.error("a number"))
    }

    fn skip_digits(&mut self) -> Result<()> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.position += 1;
        }
        Ok(())
    }

    /// Return the string that starts at the position and move behind it, if it is short and plain, as most are.
    fn short_string(&mut self) -> Option<&'a str> {
        let text = &self.text[self.position..];
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let length = text.iter().take(SHORT_BYTES).take_while(|byte| is_plain(byte)).count();
        if text.get(length) != Some(&b'"') {
            return None;
        }
        self.position += length + 1;
        std::str::from_utf8(&text[..length]).ok()
    }

    /// Move to the next quote or backslash, return the position before it.
    fn skip_plain(&mut self) -> Result<usize> {
        let start = self.position;
        let Some(length) = memchr::memchr2(b'"', b'\\', &self.text[start..]) else {
            self.position = self.text.len();
            return Err(self.error("'\"'"));
        };
        self.position += length;
        Ok(start)
    }

    fn parse_base64(&mut self) -> Result<Base64<'a>> {
        let opening = self.position;
        self.position += 1;
        let start = self.skip_plain()?;
        if self.peek() == Some(b'"') {
            self.position += 1;
            return Ok(Base64 { text: Cow::Borrowed(&self.text[start..self.position - 1]), position: start });
        }
        // An escape, usually of a slash: the text has to be unescaped before it is base64.
        self.position = opening;
        let text = match self.parse_string()? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Ok(Base64 { text, position: start })
    }

    fn parse_string(&mut self) -> Result<Cow<'a, str>> {
        self.position += 1;
        if let Some(text) = self.short_string() {
            return Ok(Cow::Borrowed(text));
        }
        let mut unescaped = String::new();
        loop {
            let start = self.skip_plain()?;
            let plain = self.plain_from(start)?;
            let is_end = self.peek() == Some(b'"');
            self.position += 1;
            if is_end && unescaped.is_empty() {
                return Ok(Cow::Borrowed(plain));
            }
            unescaped.push_str(plain);
            if is_end {
                return Ok(Cow::Owned(unescaped));
            }
            unescaped.push(self.parse_escape()?);
        }
    }

    /// Return the text from `start` to here, which must have no control characters.
    fn plain_from(&mut self, start: usize) -> Result<&'a str> {
        let plain = self.str_from(start)?;
        if let Some(index) = plain.bytes().position(|byte| byte < b' ') {
            self.position = start + index;
            return Err(self.error("no control character in a string"));
        }
        Ok(plain)
    }

    fn str_from(&mut self, start: usize) -> Result<&'a str> {
        std::str::from_utf8(&self.text[start..self.position]).map_err(|error| {
            self.position = start + error.valid_up_to();
            self.error("UTF-8")
        })
    }

    /// Parse what follows a backslash.
    fn parse_escape(&mut self) -> Result<char> {
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.parse_unicode_escape(),
            _ => return Err(self.error("an escape")),
        };
        self.position += 1;
        Ok(character)
    }

    fn parse_unicode_escape(&mut self) -> Result<char> {
        let start = self.position;
        let mut units = [self.parse_unit()?, 0];
        let mut num_units = 1;
        if (0xD800..0xDC00).contains(&units[0]) && self.text[self.position..].starts_with(b"\\u") {
            self.position += 1;
            units[1] = self.parse_unit()?;
            num_units = 2;
        }
        if let Some(Ok(character)) = char::decode_utf16(units[..num_units].iter().copied()).next() {
            return Ok(character);
        }
        let got = format!("the lone surrogate \\u{:04x}", units[0]);
        Err(Error::Json { expected: "a pair of surrogates", got, position: start - 1 })
    }

    /// Parse the `u` at the position and the 4 digits behind it.
    fn parse_unit(&mut self) -> Result<u16> {
        self.position += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.error("a hexadecimal digit"));
            };
            unit = unit << 4 | digit as u16;
            self.position += 1;
        }
        Ok(unit)
    }
}

fn describe(byte: u8) -> String {
    if byte.is_ascii_graphic() || byte == b' ' {
        format!("{:?}", char::from(byte))
    } else {
        format!("byte {byte:#04x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: AudioFields<'_> =
        AudioFields { message_type: ("type", "audio"), audio: "audio", request_id: "client_req_id" };

    fn audio_of(text: &str) -> Result<Vec<u8>> {
        let fields = decode_message(text.as_bytes(), "audio")?;
        let Some((_, Value::Audio(base64))) = fields.into_iter().find(|(name, _)| name == "audio") else {
            panic!("no audio")
        };
        let mut audio = vec![0; base64.decoded_bytes()?];
        base64.decode_into(&mut audio)?;
        Ok(audio)
    }

    fn message_of(text: &[u8]) -> String {
        decode_message(text, "audio").expect_err("refused").to_string()
    }

    #[test]
    fn audio_message_is_one_line_of_ascii() {
        assert_eq!(encode_audio_message(&FIELDS, b"\x01\x02", None), r#"{"type":"audio","audio":"AQI="}"#);
        assert_eq!(
            encode_audio_message(&FIELDS, b"", Some("a\"\\\n\u{7f}\u{e9}\u{1f600}")),
            r#"{"type":"audio","audio":"","client_req_id":"a\"\\\n\u007f\u00e9\ud83d\ude00"}"#
        );
    }

    #[test]
    fn audio_field_is_decoded_wherever_it_is_written() {
        for text in [
            r#"{"audio":"AQI="}"#,
            r#" { "type" : "audio" , "audio" : "AQI=" } "#,
            r#"{"\u0061udio":"AQI="}"#,
            r#"{"audio":"\u0041QI="}"#,
            r#"{"audio":5,"audio":"////","audio":"AQI="}"#,
        ] {
            assert_eq!(audio_of(text), Ok(vec![1, 2]), "{text}");
        }
        assert_eq!(audio_of(r#"{"audio":"\/\/\/\/"}"#), Ok(vec![255; 3]));
    }

    #[test]
    fn last_audio_field_takes_the_place_of_the_first() {
        let fields = decode_message(br#"{"audio":1,"a":2,"audio":"!","b":3,"audio":"AQI="}"#, "audio").expect("valid");
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["audio", "a", "b"]);
    }

    #[test]
    fn bad_base64_is_refused_with_its_position() {
        let cases = [
            ("AQ", "expected base64 of a multiple of 4 characters, got 2 characters at byte 10"),
            ("AQI", "expected base64 of a multiple of 4 characters, got 3 characters at byte 10"),
            ("AQ I", "expected base64 characters, got ' ' at byte 12"),
            ("AQ-_", "expected base64 characters, got '-' at byte 12"),
            ("AQJ=", "expected base64 with canonical padding, got other padding at byte 13"),
            ("A===", "expected base64 with canonical padding, got other padding at byte 11"),
            ("AQI=AQI=", "expected base64 with canonical padding, got other padding at byte 13"),
            ("\n", "expected base64 characters, got byte 0x0a at byte 10"),
        ];
        for (base64, text) in cases {
            let message = format!(r#"{{"audio":"{base64}"}}"#);
            assert_eq!(audio_of(&message).expect_err(base64).to_string(), text);
        }
    }

    #[test]
    fn bad_json_is_refused_with_its_position() {
        let cases: [(&[u8], &str); 22] = [
            (b"", "expected a JSON object, got the end at byte 0"),
            (b"[]", "expected a JSON object, got '[' at byte 0"),
            (b"\xef\xbb\xbf{}", "expected a JSON object, got byte 0xef at byte 0"),
            (b"{", "expected a field name, got the end at byte 1"),
            (b"{}x", "expected the end of the message, got 'x' at byte 2"),
            (b"{,}", "expected a field name, got ',' at byte 1"),
            (b"{\"a\"}", "expected ':', got '}' at byte 4"),
            (b"{\"a\":}", "expected a value, got '}' at byte 5"),
            (b"{\"a\":1,}", "expected a field name, got '}' at byte 7"),
            (b"{\"a\":[1,]}", "expected a value, got ']' at byte 8"),
            (b"{\"a\":01}", "expected ',' or '}', got '1' at byte 6"),
            (b"{\"a\":-}", "expected a digit, got '}' at byte 6"),
            (b"{\"a\":1.}", "expected a digit, got '}' at byte 7"),
            (b"{\"a\":1e}", "expected a digit, got '}' at byte 7"),
            (b"{\"a\":NaN}", "expected a value, got 'N' at byte 5"),
            (b"{\"a\":nul}", "expected a value, got 'n' at byte 5"),
            (b"{\"a\":\"\t\"}", "expected no control character in a string, got byte 0x09 at byte 6"),
            (b"{\"a\":\"\\x\"}", "expected an escape, got 'x' at byte 7"),
            (b"{\"a\":\"\\u00g0\"}", "expected a hexadecimal digit, got 'g' at byte 10"),
            (b"{\"a\":\"\\ud800\"}", "expected a pair of surrogates, got the lone surrogate \\ud800 at byte 6"),
            (b"{\"a\":\"\xff\"}", "expected UTF-8, got byte 0xff at byte 6"),
            (b"{\"audio\":null}", "expected a base64 string, got null in \"audio\" at byte 0"),
        ];
        for (text, message) in cases {
            assert_eq!(message_of(text), message);
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(decode_message(nested(MAX_DEPTH).as_bytes(), "audio").is_ok());
        assert_eq!(
            message_of(nested(MAX_DEPTH + 1).as_bytes()),
            "expected at most 128 levels of nesting, got '[' at byte 132"
        );
    }

    fn same(value: &Value<'_>, expected: &serde_json::Value) -> bool {
        match (value, expected) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
            (Value::Integer(a), serde_json::Value::Number(b)) => *a == b.as_str(),
            (Value::Float(a), serde_json::Value::Number(b)) => b.as_f64() == Some(*a),
            (Value::String(a), serde_json::Value::String(b)) => a == b,
            (Value::Array(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
            }
            _ => false,
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e300..1e300_f64).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_is_parsed_like_serde_json(value in json()) {
            let object = serde_json::json!({ "x": value });
            for text in [object.to_string(), serde_json::to_string_pretty(&object).expect("valid")] {
                let fields = decode_message(text.as_bytes(), "audio").expect("valid");
                prop_assert!(same(&Value::Object(fields), &object), "{text}");
            }
        }

        #[test]
        fn any_text_is_accepted_or_refused_like_serde_json(text in r#"\{"a":[\[\]{}",:0-9eE+.\-\\untrlasf ]{0,12}\}"#) {
            let expected = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            prop_assert_eq!(decode_message(text.as_bytes(), "audio").is_ok(), expected.is_ok(), "{}", text);
        }

        #[test]
        fn message_is_the_same_whether_written_or_returned(
            audio in prop::collection::vec(any::<u8>(), 0..300),
            id in any::<Option<String>>(),
        ) {
            let message = AudioMessage::new(&FIELDS, &audio, id.as_deref());
            let mut written = vec![0; message.num_bytes()];
            message.write_into(&mut written);
            prop_assert_eq!(written, encode_audio_message(&FIELDS, &audio, id.as_deref()).into_bytes());
        }

        #[test]
        fn any_audio_survives(audio in prop::collection::vec(any::<u8>(), 0..300), id in any::<Option<String>>()) {
            let text = encode_audio_message(&FIELDS, &audio, id.as_deref());
            prop_assert!(text.is_ascii());
            prop_assert_eq!(audio_of(&text), Ok(audio));
            let parsed: serde_json::Value = serde_json::from_str(&text).expect("valid");
            prop_assert_eq!(parsed["client_req_id"].as_str(), id.as_deref());
        }
    }
}
