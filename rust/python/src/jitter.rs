//! The jitter buffer.

use crate::buffer::{Input, Item};
use crate::error::{CoreError, audio_error};
use crate::resample::narrow_rate;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use speechwire_core::jitter::{JitterBuffer as Core, JitterOptions, JitterStats as CoreStats, Kind, Mode};

/// Holds packets back for as long as the network needs, and gives a frame whenever it is asked for one.
#[pyclass(module = "speechwire._core")]
pub struct JitterBuffer {
    buffer: Core,
}

/// One frame to be played.
#[pyclass(module = "speechwire._core", frozen)]
pub struct JitterFrame {
    #[pyo3(get)]
    pcm: Py<PyBytes>,
    kind: Kind,
    #[pyo3(get)]
    timestamp: f64,
    #[pyo3(get)]
    concealed: usize,
    #[pyo3(get)]
    accelerated: usize,
    #[pyo3(get)]
    expanded: usize,
}

/// What happened so far, and the delay as it is.
#[pyclass(module = "speechwire._core", frozen)]
pub struct JitterStats {
    stats: CoreStats,
}

#[pymethods]
impl JitterFrame {
    /// What the frame is made of.
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::intern(py, self.kind.name())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Self { kind, timestamp, concealed, accelerated, expanded, .. } = self;
        let (kind, num_bytes) = (kind.name(), self.pcm.bind(py).len()?);
        let timestamp = format!("{timestamp:.0}").to_lowercase(); // NaN is nan in Python
        Ok(format!(
            "JitterFrame(kind='{kind}', timestamp={timestamp}, concealed={concealed}, accelerated={accelerated}, \
             expanded={expanded}, pcm=<{num_bytes} bytes>)"
        ))
    }
}

#[pymethods]
impl JitterBuffer {
    #[new]
    #[pyo3(signature = (sample_rate, *, frame_ms = 20.0, mode = "network", loss_price_ms = 100.0, drop_late = false, start_ms = 0.0))]
    fn new(
        sample_rate: i64,
        frame_ms: f64,
        mode: &str,
        loss_price_ms: f64,
        drop_late: bool,
        start_ms: f64,
    ) -> PyResult<Self> {
        let options = JitterOptions {
            sample_rate: narrow_rate(sample_rate).map_err(PyErr::from)?,
            frame_ms,
            mode: Mode::parse(mode).map_err(CoreError::from)?,
            loss_price_ms,
            drop_late,
            start_ms,
        };
        Ok(Self { buffer: Core::new(&options).map_err(CoreError::from)? })
    }

    /// How many samples a frame has.
    #[getter]
    fn frame_size(&self) -> usize {
        self.buffer.frame_size()
    }

    /// What happened so far.
    #[getter]
    fn stats(&self) -> JitterStats {
        JitterStats { stats: self.buffer.stats() }
    }

    /// Drop all that waits.
    fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Say that nothing more of this answer comes.
    fn finish(&mut self) {
        self.buffer.finish();
    }

    /// Forget everything.
    fn reset(&mut self) {
        self.buffer.reset();
    }

    /// Put in a packet.
    #[pyo3(signature = (seq, timestamp, payload, *, now))]
    fn push(&mut self, seq: i64, timestamp: i64, payload: &Bound<'_, PyAny>, now: f64) -> PyResult<()> {
        let py = payload.py();
        let seq = u16::try_from(seq).map_err(|_| count_error(py, "sequence number", u16::MAX.into(), seq))?;
        let timestamp = u32::try_from(timestamp).map_err(|_| count_error(py, "timestamp", u32::MAX, timestamp))?;
        let payload = Input::new(payload, Item::S16)?;
        Ok(self.buffer.push(seq, timestamp, payload.as_slice(), now).map_err(CoreError::from)?)
    }

    /// Take out the next frame.
    #[pyo3(signature = (*, now))]
    fn pop(&mut self, py: Python<'_>, now: f64) -> PyResult<JitterFrame> {
        let frame = self.buffer.pop(now).map_err(CoreError::from)?;
        let pcm = PyBytes::new_with(py, frame.pcm.len() * 2, |bytes| {
            for (bytes, sample) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(frame.pcm) {
                *bytes = sample.to_le_bytes();
            }
            Ok(())
        })?;
        Ok(JitterFrame {
            pcm: pcm.unbind(),
            kind: frame.kind,
            timestamp: frame.timestamp.map_or(f64::NAN, |timestamp| timestamp as f64),
            concealed: frame.concealed,
            accelerated: frame.accelerated,
            expanded: frame.expanded,
        })
    }
}

/// The error for a count that has outgrown the wire: whoever keeps it unwrapped meets it late in a call.
fn count_error(py: Python<'_>, name: &str, max: u32, count: i64) -> PyErr {
    audio_error(py, format!("expected a {name} of 0 to {max}, got {count}"))
}

#[pymethods]
impl JitterStats {
    fn __repr__(&self) -> String {
        let CoreStats {
            target_delay_ms,
            delay_ms,
            jitter_ms,
            num_received,
            num_lost,
            num_late,
            num_duplicates,
            num_reordered,
            num_underruns,
            concealed_samples,
            accelerated_samples,
            expanded_samples,
        } = self.stats;
        format!(
            "JitterStats(target_delay_ms={target_delay_ms:.1}, delay_ms={delay_ms:.1}, jitter_ms={jitter_ms:.1}, \
             num_received={num_received}, num_lost={num_lost}, num_late={num_late}, num_duplicates={num_duplicates}, \
             num_reordered={num_reordered}, num_underruns={num_underruns}, concealed_samples={concealed_samples}, \
             accelerated_samples={accelerated_samples}, expanded_samples={expanded_samples})"
        )
    }

    #[getter]
    fn target_delay_ms(&self) -> f64 {
        self.stats.target_delay_ms
    }

    #[getter]
    fn delay_ms(&self) -> f64 {
        self.stats.delay_ms
    }

    #[getter]
    fn jitter_ms(&self) -> f64 {
        self.stats.jitter_ms
    }

    #[getter]
    fn num_received(&self) -> u64 {
        self.stats.num_received
    }

    #[getter]
    fn num_lost(&self) -> u64 {
        self.stats.num_lost
    }

    #[getter]
    fn num_late(&self) -> u64 {
        self.stats.num_late
    }

    #[getter]
    fn num_duplicates(&self) -> u64 {
        self.stats.num_duplicates
    }

    #[getter]
    fn num_reordered(&self) -> u64 {
        self.stats.num_reordered
    }

    #[getter]
    fn num_underruns(&self) -> u64 {
        self.stats.num_underruns
    }

    #[getter]
    fn concealed_samples(&self) -> u64 {
        self.stats.concealed_samples
    }

    #[getter]
    fn accelerated_samples(&self) -> u64 {
        self.stats.accelerated_samples
    }

    #[getter]
    fn expanded_samples(&self) -> u64 {
        self.stats.expanded_samples
    }
}
