//! An Ogg Opus stream is read or refused, where it is cut makes no difference, and what is written has its length when
//! it is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use speechwire_core::ogg::{PageWriter, checksum};
use speechwire_core::{Error, OggOpusReader, OggOpusWriter};

/// The audio as far as the stream is right, and how it ended.
fn read(chunks: &[&[u8]]) -> (Vec<u8>, Result<(), Error>) {
    let (mut reader, mut pcm) = (OggOpusReader::new(), Vec::new());
    for chunk in chunks {
        // A failure is permanent: `close` returns it. What its chunk gave is not taken.
        let num_bytes = pcm.len();
        if reader.feed(chunk, &mut pcm).is_err() {
            pcm.truncate(num_bytes);
        }
    }
    (pcm, reader.close())
}

fn check_cut(stream: &[u8], cut: usize) -> Result<Vec<u8>, Error> {
    let (head, tail) = stream.split_at(cut.min(stream.len()));
    let (whole, pieces) = (read(&[stream]), read(&[head, tail]));
    assert_eq!(whole.1, pieces.1);
    assert!(whole.1.is_err() || whole.0 == pieces.0);
    whole.1.map(|()| whole.0)
}

/// Put the right checksum on every page, or no fuzzer would get past the first.
fn repair(mut stream: &mut [u8]) {
    loop {
        let Some(num_segments) = stream.get(26) else { return };
        let head_bytes = 27 + usize::from(*num_segments);
        let Some(lacing) = stream.get(27..head_bytes) else { return };
        let page_bytes = head_bytes + lacing.iter().map(|size| usize::from(*size)).sum::<usize>();
        let Some((page, rest)) = stream.split_at_mut_checked(page_bytes) else { return };
        let checksum = checksum(page);
        page[22..26].copy_from_slice(&checksum.to_le_bytes());
        stream = rest;
    }
}

/// Make a stream of the bytes as packets, each with its size in front.
fn wrap(layout: u8, mut data: &[u8]) -> Vec<u8> {
    let (mut writer, mut stream) = (PageWriter::new(1), Vec::new());
    let head = [b"OpusHead\x01", &[layout % 2 + 1][..], &[0, 1, 0, 0, 0, 0, 0, layout, 0]].concat();
    for packet in [&head[..], b"OpusTags"] {
        writer.push_packet(packet, 0, true, &mut stream).expect("short");
    }
    while let Some((size, rest)) = data.split_first() {
        let (packet, rest) = rest.split_at(usize::from(*size).min(rest.len()));
        writer.push_packet(packet, u64::MAX / 2, false, &mut stream).expect("short");
        data = rest;
    }
    writer.finish(&mut stream);
    stream
}

fuzz_target!(|data: &[u8]| {
    let Some(([low, high, layout], stream)) = data.split_first_chunk::<3>() else { return };
    let cut = usize::from(u16::from_le_bytes([*low, *high]));
    let mut repaired = stream.to_vec();
    repair(&mut repaired);
    let _ = check_cut(stream, cut);
    let _ = check_cut(&repaired, cut);
    let _ = check_cut(&wrap(*layout, stream), cut);

    let sample_rate = [8_000, 12_000, 16_000, 24_000, 48_000][usize::from(layout % 5)];
    let frame_ms = 2.5 * f64::from(layout % 33 + 1);
    let mut writer = OggOpusWriter::new(sample_rate, 1, 6_000 + i64::from(*layout) * 1_000, frame_ms).expect("valid");
    let pcm = &stream[..stream.len() / 2 * 2];
    let (mut written, (head, tail)) = (Vec::new(), pcm.split_at(cut.min(pcm.len())));
    for chunk in [head, tail] {
        writer.feed(chunk, |page| written.extend_from_slice(page)).expect("encoded");
    }
    writer.flush(|page| written.extend_from_slice(page)).expect("whole samples");
    let output = check_cut(&written, cut).expect("a right stream");
    assert_eq!(output.len(), pcm.len() * (48_000 / sample_rate) as usize);
});
