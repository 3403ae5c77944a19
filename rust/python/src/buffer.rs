//! Where bytes enter and leave. The one `unsafe` block outside the core's room of kernels stands here.
//!
//! `bytes` cannot change and are borrowed. Every other buffer may change under us, so it is copied first.

use crate::error::audio_error;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyModule, PyString, PyType};
use speechwire_core::message::AudioMessage;

/// From here on a simple kernel takes long enough, about 4 us, that letting other threads run pays for the switch:
/// two threads are 1.7 times as fast as one. `benches/threads.py` measures it.
const DETACH_BYTES: usize = 64 * 1024;
/// How many bytes of a simple kernel a byte to be resampled is worth.
pub const RESAMPLING_WORK: usize = 8;
/// The same for a byte of PCM to be encoded in Opus. A byte of Opus to be decoded is worth more, and either way a packet
/// takes long enough.
pub const OPUS_WORK: usize = 1024;
/// How many bytes of base64 are worth one of a simple kernel.
pub const BASE64_WORK: usize = 4;

static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static FROMBUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static INT16: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static FLOAT32: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What the items of a buffer may be, besides bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Nothing else: codes and containers.
    Byte,
    /// 16-bit integers.
    S16,
    /// 32-bit floats.
    F32,
}

impl Item {
    fn name(self) -> &'static str {
        match self {
            Self::Byte => "uint8",
            Self::S16 => "int16",
            Self::F32 => "float32",
        }
    }
}

/// The bytes of an argument.
pub enum Input<'a> {
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
}

impl<'a> Input<'a> {
    /// Take the bytes of any object with a C-contiguous buffer of bytes or of `item`.
    pub fn new(object: &'a Bound<'_, PyAny>, item: Item) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::Borrowed(bytes.as_bytes()));
        }
        let py = object.py();
        if let Ok(bytes) = PyBuffer::<u8>::get(object) {
            return copy(py, &bytes, |byte| [byte]).map(Self::Copied);
        }
        if let Some(samples) = copy_samples(object, item) {
            return samples.map(Self::Copied);
        }
        // An object without a buffer is a TypeError, as it is everywhere in Python.
        let view = PyMemoryView::from(object)?;
        let format: String = view.getattr("format")?.extract()?;
        let text = match item {
            Item::Byte => format!("expected a buffer of bytes, got format {format:?}"),
            _ => format!("expected a buffer of bytes or of {} items, got format {format:?}", item.name()),
        };
        Err(audio_error(py, text))
    }

    /// Take the bytes of any object with a C-contiguous buffer of whatever items, as C functions do.
    ///
    /// What has none is refused with the interpreter's own exception.
    pub fn of_any_item(object: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::Borrowed(bytes.as_bytes()));
        }
        let py = object.py();
        if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
            return Ok(Self::Copied(bytes.to_vec()));
        }
        if let Ok(bytes) = PyBuffer::<u8>::get(object)
            && bytes.is_c_contiguous()
        {
            return copy(py, &bytes, |byte| [byte]).map(Self::Copied);
        }
        if let Ok(view) = PyMemoryView::from(object)
            && view.getattr("c_contiguous")?.is_truthy()?
        {
            return view.call_method0("tobytes")?.extract().map(Self::Copied);
        }
        // A built-in that asks for the same kind of buffer knows what to say.
        match py.get_type::<PyBytes>().call_method1("maketrans", (object, object)) {
            Err(error) => Err(error),
            Ok(_) => Err(PyBufferError::new_err("expected a C-contiguous buffer")),
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }
}

/// Copy the bytes of a buffer of the wider items, None if it is none.
fn copy_samples(object: &Bound<'_, PyAny>, item: Item) -> Option<PyResult<Vec<u8>>> {
    let py = object.py();
    match item {
        Item::Byte => None,
        Item::S16 => native_buffer(object).map(|samples| copy(py, &samples, i16::to_le_bytes)),
        Item::F32 => native_buffer(object).map(|samples| copy(py, &samples, f32::to_le_bytes)),
    }
}

/// Return a buffer of such items in the machine's byte order.
///
/// pyo3 takes ">" for the order of a little-endian machine, which makes noise of network audio in an array.
fn native_buffer<T: Element>(object: &Bound<'_, PyAny>) -> Option<PyBuffer<T>> {
    let foreign: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
    let buffer = PyBuffer::<T>::get(object).ok()?;
    let order = buffer.format().to_bytes().first()?;
    (!foreign.contains(order)).then_some(buffer)
}

fn copy<T: Element, const N: usize>(
    py: Python<'_>,
    buffer: &PyBuffer<T>,
    to_bytes: impl Fn(T) -> [u8; N],
) -> PyResult<Vec<u8>> {
    if !buffer.is_c_contiguous() {
        return Err(audio_error(py, "expected a C-contiguous buffer, got one with strides".to_owned()));
    }
    let items = buffer.to_vec(py)?;
    let mut bytes = vec![0; items.len() * N];
    for (bytes, item) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(items) {
        *bytes = to_bytes(item);
    }
    Ok(bytes)
}

/// Do work that is as long as that of a simple kernel on so many bytes, with other threads running if it is long.
pub fn detached<T: Send>(py: Python<'_>, work_bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    if work_bytes >= DETACH_BYTES { py.detach(work) } else { work() }
}

/// Return new `bytes` that `fill` writes, with the work of so many bytes.
pub fn new_bytes(
    py: Python<'_>,
    num_bytes: usize,
    work_bytes: usize,
    fill: impl FnOnce(&mut [u8]) + Send,
) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, num_bytes, |output| {
        detached(py, num_bytes.max(work_bytes), || fill(output));
        Ok(())
    })
}

/// Return a message as a new string.
///
/// The stable ABI makes strings only by decoding bytes, which looks at each of them again: for an audio message that
/// takes longer than everything else. So a string of the length is made, and written before anybody else has it.
pub fn new_message<'py>(py: Python<'py>, message: &AudioMessage<'_>) -> PyResult<Bound<'py, PyString>> {
    let num_bytes = message.num_bytes();
    // A string of one character could be one that others have too.
    assert!(num_bytes > 1);
    let text = PyString::new(py, " ").mul(num_bytes)?.cast_into::<PyString>()?;
    let mut size = 0;
    // SAFETY: an ASCII string of CPython keeps its characters in itself; this returns their address and number. The
    // string was made above: nobody else has it or a reference into it, it is not interned and its hash has not been
    // computed. So the characters, `size` of them and all of them initialised, are ours to write until it is returned.
    // They stay ASCII, because `AudioMessage` writes nothing else.
    #[allow(unsafe_code)]
    let characters = unsafe {
        let blank = pyo3::ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut size);
        assert!(!blank.is_null() && size as usize == num_bytes);
        std::slice::from_raw_parts_mut(blank.cast::<u8>().cast_mut(), num_bytes)
    };
    detached(py, num_bytes / BASE64_WORK, || message.write_into(characters));
    debug_assert!(characters.is_ascii());
    Ok(text)
}

/// Feed a chunk to something that emits frames and return them as a list of `bytes`.
pub fn new_frames<E>(
    py: Python<'_>,
    work_bytes: usize,
    feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E> + Send,
) -> PyResult<Bound<'_, PyList>>
where
    E: Send + Into<PyErr>,
{
    let list = PyList::empty(py);
    if work_bytes < DETACH_BYTES {
        let mut appended = Ok(());
        feed(&mut |frame| {
            if appended.is_ok() {
                appended = list.append(PyBytes::new(py, frame));
            }
        })
        .map_err(Into::into)?;
        return appended.map(|()| list);
    }
    let mut frames = Vec::new();
    py.detach(|| feed(&mut |frame| frames.push(frame.to_vec()))).map_err(Into::into)?;
    for frame in frames {
        list.append(PyBytes::new(py, &frame))?;
    }
    Ok(list)
}

/// Return whether an object is a numpy array; numpy is never imported for the question.
fn is_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if object.is_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>() {
        return Ok(false);
    }
    let py = object.py();
    if NDARRAY.get(py).is_none() && !PyModule::import(py, "sys")?.getattr("modules")?.contains("numpy")? {
        return Ok(false);
    }
    object.is_instance(NDARRAY.import(py, "numpy", "ndarray")?)
}

/// A numpy array, to be answered with one of the same dtype.
pub struct Array<'py> {
    pub dtype: Bound<'py, PyAny>,
    pub samples: Vec<u8>,
}

impl<'py> Array<'py> {
    /// Take the samples of a one-dimensional array of `item`; None if the object is no array.
    pub fn new(object: &Bound<'py, PyAny>, item: Item) -> PyResult<Option<Self>> {
        if object.is_instance_of::<PyBytes>() || !is_array(object)? {
            return Ok(None);
        }
        let py = object.py();
        let dtype = object.getattr(intern!(py, "dtype"))?;
        let num_dimensions = object.getattr(intern!(py, "ndim"))?.extract::<usize>()?;
        let expected = match item {
            Item::F32 => FLOAT32.get_or_try_init(py, || new_dtype(py, item))?,
            _ => INT16.get_or_try_init(py, || new_dtype(py, item))?,
        };
        if num_dimensions == 1
            && (dtype.is(expected) || dtype.eq(expected)?)
            && let Some(samples) = copy_samples(object, item)
        {
            return samples.map(|samples| Some(Self { dtype, samples }));
        }
        let text = format!("expected a 1-d array of {}, got a {num_dimensions}-d array of {dtype}", item.name());
        Err(audio_error(py, text))
    }
}

fn new_dtype(py: Python<'_>, item: Item) -> PyResult<Py<PyAny>> {
    Ok(PyModule::import(py, "numpy")?.getattr("dtype")?.call1((item.name(),))?.unbind())
}

/// Return a new numpy array of `dtype` whose bytes `fill` writes, with the work of so many bytes.
pub fn new_array<'py>(
    dtype: &Bound<'py, PyAny>,
    num_bytes: usize,
    work_bytes: usize,
    fill: impl FnOnce(&mut [u8]) + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let py = dtype.py();
    // A bytearray makes the array writable without a copy.
    let output = PyByteArray::new_with(py, num_bytes, |output| {
        detached(py, num_bytes.max(work_bytes), || fill(output));
        Ok(())
    })?;
    FROMBUFFER.import(py, "numpy", "frombuffer")?.call1((output, dtype))
}
