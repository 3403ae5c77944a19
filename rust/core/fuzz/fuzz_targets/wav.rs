//! A WAV stream is read or refused, and where it is cut makes no difference.

#![no_main]

use libfuzzer_sys::fuzz_target;
use speechwire_core::{Error, WavReader};

fn read(chunks: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let (mut reader, mut output) = (WavReader::new(), Vec::new());
    for chunk in chunks {
        reader.feed(chunk, &mut output)?;
    }
    reader.close()?;
    Ok(output)
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, stream)) = data.split_first() else { return };
    let (head, tail) = stream.split_at(usize::from(*cut).min(stream.len()));
    let whole = read(&[stream]);
    assert_eq!(whole, read(&[head, tail]));
    // One byte becomes at most two samples.
    assert!(whole.is_err() || whole.is_ok_and(|pcm| pcm.len() <= 4 * stream.len()));
});
