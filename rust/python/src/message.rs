//! Audio messages and dictionaries.

use crate::buffer::{BASE64_WORK, Input, Item, detached, new_message};
use crate::error::{CoreError, wire_error};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};
use speechwire_core::message::{self, AudioFields, AudioMessage, Base64, Fields, Value};

const FIELDS: AudioFields<'static> =
    AudioFields { message_type: ("type", "audio"), audio: "audio", request_id: "client_req_id" };

/// Build the message for a chunk of audio.
#[pyfunction]
#[pyo3(signature = (audio, client_req_id = None))]
pub fn encode_audio_message<'py>(
    audio: &Bound<'py, PyAny>,
    client_req_id: Option<&Bound<'py, PyString>>,
) -> PyResult<Bound<'py, PyString>> {
    let client_req_id = client_req_id.map(unicode_of).transpose()?;
    let input = Input::new(audio, Item::S16)?;
    new_message(audio.py(), &AudioMessage::new(&FIELDS, input.as_slice(), client_req_id))
}

/// Parse a message, with its audio decoded.
#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn decode_message<'py>(text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = text.py();
    let Ok(string) = text.cast::<PyString>() else {
        return decode(py, Input::new(text, Item::Byte)?.as_slice());
    };
    decode(py, unicode_of(string)?.as_bytes())
}

/// Borrow the UTF-8 of a string; a lone surrogate has none.
fn unicode_of<'a>(string: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    let refused = || wire_error(string.py(), "expected text that is Unicode, got a lone surrogate".to_owned());
    string.to_str().map_err(|_| refused())
}

fn decode<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let fields = detached(py, text.len() / BASE64_WORK, || message::decode_message(text, FIELDS.audio))
        .map_err(CoreError::from)?;
    new_dict(py, fields)
}

fn new_dict<'py>(py: Python<'py>, fields: Fields<'_>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        dict.set_item(new_string(py, &name), new_value(py, value)?)?;
    }
    Ok(dict)
}

/// Return a string; those of every audio message are made once.
fn new_string<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyString> {
    match text {
        "type" => intern!(py, "type").clone(),
        "audio" => intern!(py, "audio").clone(),
        text => PyString::new(py, text),
    }
}

fn new_value<'py>(py: Python<'py>, value: Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        Value::Integer(digits) => new_int(py, digits)?,
        Value::Float(value) => PyFloat::new(py, value).into_any(),
        Value::String(value) => new_string(py, &value).into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(new_value(py, value)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => new_dict(py, fields)?.into_any(),
        Value::Audio(base64) => new_audio(py, &base64)?.into_any(),
    })
}

fn new_int<'py>(py: Python<'py>, digits: &str) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(value) = digits.parse::<i64>() {
        return Ok(PyInt::new(py, value).into_any());
    }
    // Python bounds the length of the integers it converts, because that takes quadratic time.
    py.get_type::<PyInt>().call1((digits,)).map_err(|_| {
        wire_error(py, format!("expected an integer that Python converts, got one of {} digits", digits.len()))
    })
}

fn new_audio<'py>(py: Python<'py>, base64: &Base64<'_>) -> PyResult<Bound<'py, PyBytes>> {
    let num_bytes = base64.decoded_bytes().map_err(CoreError::from)?;
    PyBytes::new_with(py, num_bytes, |audio| {
        let decoded = detached(py, num_bytes / BASE64_WORK, || base64.decode_into(audio));
        decoded.map_err(|error| CoreError::from(error).into())
    })
}
