//! Frames of a fixed size out of chunks of any size.

use crate::{Error, Result};

/// Cuts a stream of bytes into frames and keeps the remainder for the next chunk.
#[derive(Clone, Debug)]
pub struct FrameSlicer {
    frame_bytes: usize,
    pending: Vec<u8>,
}

impl FrameSlicer {
    /// Create a slicer for frames of `frame_bytes` bytes.
    pub fn new(frame_bytes: usize) -> Result<Self> {
        if frame_bytes == 0 {
            return Err(Error::FrameBytes);
        }
        Ok(Self { frame_bytes, pending: Vec::new() })
    }

    /// Return the size of a frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Return how many bytes wait for the rest of their frame.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Pass every frame that the chunk completes to `emit`.
    ///
    /// The remainder is kept for the next call; call [`FrameSlicer::flush`] at the end.
    pub fn feed(&mut self, mut chunk: &[u8], mut emit: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            let missing = (self.frame_bytes - self.pending.len()).min(chunk.len());
            self.pending.extend_from_slice(&chunk[..missing]);
            chunk = &chunk[missing..];
            if self.pending.len() < self.frame_bytes {
                return;
            }
            emit(&self.pending);
            self.pending.clear();
        }
        let frames = chunk.chunks_exact(self.frame_bytes);
        self.pending.extend_from_slice(frames.remainder());
        frames.for_each(emit);
    }

    /// Return the remainder, filled up to a frame with `pad` where one is given, and start a new stream.
    ///
    /// The result is empty if nothing was kept.
    pub fn flush(&mut self, pad: Option<u8>) -> Vec<u8> {
        let mut frame = std::mem::take(&mut self.pending);
        if let Some(pad) = pad
            && !frame.is_empty()
        {
            frame.resize(self.frame_bytes, pad);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slice(slicer: &mut FrameSlicer, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        slicer.feed(chunk, |frame| frames.push(frame.to_vec()));
        frames
    }

    #[test]
    fn keeps_remainder_between_chunks() {
        let mut slicer = FrameSlicer::new(4).expect("valid");
        assert!(slice(&mut slicer, b"abc").is_empty());
        assert_eq!(slicer.pending_bytes(), 3);
        assert_eq!(slice(&mut slicer, b"defghij"), [b"abcd", b"efgh"]);
        assert_eq!(slicer.flush(None), b"ij");
        assert_eq!(slicer.pending_bytes(), 0);
    }

    #[test]
    fn pads_only_a_started_frame() {
        let mut slicer = FrameSlicer::new(4).expect("valid");
        assert!(slicer.flush(Some(0xFF)).is_empty());
        slice(&mut slicer, b"a");
        assert_eq!(slicer.flush(Some(0xFF)), [b'a', 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn refuses_an_empty_frame() {
        assert_eq!(FrameSlicer::new(0).expect_err("zero").to_string(), "expected a frame of at least 1 byte, got 0");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            frame_bytes in 1_usize..30,
        ) {
            let whole = chunks.concat();
            let mut slicer = FrameSlicer::new(frame_bytes).expect("valid");
            let mut frames = Vec::new();
            for chunk in &chunks {
                frames.extend(slice(&mut slicer, chunk));
            }
            prop_assert!(frames.iter().all(|frame| frame.len() == frame_bytes));
            let mut joined = frames.concat();
            joined.extend(slicer.flush(None));
            prop_assert_eq!(joined, whole);
        }
    }
}
