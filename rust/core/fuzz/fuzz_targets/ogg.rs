//! An Ogg stream is read or refused, where it is cut makes no difference, and its packets survive being written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use speechwire_core::Error;
use speechwire_core::ogg::{Event, PacketReader, PageWriter, checksum};

/// The packets as far as the stream is right, and how it ended.
fn read(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), Error>) {
    let (mut reader, mut packets) = (PacketReader::new(), Vec::new());
    for chunk in chunks {
        // A failure is permanent: `close` returns it.
        let _ = reader.feed(chunk, |event| {
            if let Event::Packet(packet) = event {
                packets.push(packet.data.to_vec());
            }
            Ok(())
        });
    }
    (packets, reader.close())
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

fuzz_target!(|data: &[u8]| {
    let Some((cut, stream)) = data.split_first_chunk::<2>() else { return };
    let mut stream = stream.to_vec();
    let cut = usize::from(u16::from_le_bytes(*cut)).min(stream.len());
    for is_repaired in [false, true] {
        if is_repaired {
            repair(&mut stream);
        }
        let (head, tail) = stream.split_at(cut);
        assert_eq!(read(&[&stream]), read(&[head, tail]));
    }
    let (packets, _) = read(&[&stream]);
    let (mut written, mut writer) = (Vec::new(), PageWriter::new(1));
    for (packet, ends_page) in packets.iter().zip(data.iter().cycle()) {
        writer.push_packet(packet, 0, ends_page % 2 == 1, &mut written).expect("no longer than it was read");
    }
    writer.finish(&mut written);
    assert_eq!(read(&[&written]), (packets, Ok(())));
});
