//! The reader and the writer together, on their own and beside the `ogg` crate.

use super::*;
use crate::Result;
use proptest::prelude::*;

/// A packet by value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    data: Vec<u8>,
    serial: u32,
    granule_position: Option<u64>,
    /// begins its stream, ends its stream, is continued
    flags: (bool, bool, bool),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    packets: Vec<Found>,
    ends: Vec<(u32, Option<u64>)>,
}

fn read_in_pieces(stream: &[u8], cuts: &[usize]) -> (Contents, Result<()>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&stream.len())).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let (mut reader, mut contents) = (PacketReader::new(), Contents::default());
    for pair in cuts.windows(2) {
        // A failure is permanent: `close` returns it.
        let _ = reader.feed(&stream[pair[0]..pair[1]], |event| {
            match event {
                Event::Packet(packet) => contents.packets.push(Found {
                    data: packet.data.to_vec(),
                    serial: packet.serial,
                    granule_position: packet.granule_position,
                    flags: (packet.begins_stream, packet.ends_stream, packet.is_continued),
                }),
                Event::End { serial, granule_position } => contents.ends.push((serial, granule_position)),
            }
            Ok(())
        });
    }
    (contents, reader.close())
}

fn read(stream: &[u8]) -> Contents {
    let (contents, result) = read_in_pieces(stream, &[]);
    assert_eq!(result, Ok(()));
    contents
}

fn message_of(stream: &[u8]) -> String {
    read_in_pieces(stream, &[]).1.expect_err("refused").to_string()
}

/// A page made by hand: flags, granule position, serial, sequence, segments.
fn page(flags: u8, granule_position: i64, serial: u32, sequence: u32, segments: &[&[u8]]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule_position.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(segments.len() as u8);
    page.extend(segments.iter().map(|segment| segment.len() as u8));
    page.extend(segments.concat());
    let checksum = checksum(&page);
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
    page
}

fn found(data: &[u8], granule_position: Option<u64>, flags: (bool, bool, bool)) -> Found {
    Found { data: data.to_vec(), serial: 1, granule_position, flags }
}

#[test]
fn checksum_is_that_of_a_page_from_the_field() {
    // The first page of a Vorbis stream, with its checksum in place.
    let page = [
        &b"OggS\0\x02\0\0\0\0\0\0\0\0\x74\xa3\x90\x5b\0\0\0\0\x6d\x94\x4e\x3d\x01\x1e\x01vorbis\0\0\0\0\x02"[..],
        b"\x44\xac\0\0\0\0\0\0\x80\xb5\x01\0\0\0\0\0\xb8\x01",
    ]
    .concat();
    assert_eq!(checksum(&page), 0x3d4e_946d);
    let mut num_pages = 0;
    let mut reader = PageReader::new();
    let result = reader.feed(&page, |page| {
        num_pages += 1;
        assert_eq!((page.serial, page.body.len(), page.begins_stream), (0x5b90_a374, 30, true));
        Ok(())
    });
    assert_eq!((result, num_pages, reader.close()), (Ok(()), 1, Ok(())));
}

#[test]
fn literal_pages_give_their_packets() {
    let full = [7; 255];
    let stream = [
        page(2, 0, 1, 0, &[b"head"]),
        page(0, 48, 1, 1, &[b"a", b"", &full, b"", &full]),
        page(1, -1, 1, 2, &[&full]),
        page(1 | 4, 96, 1, 3, &[b"end", b"b"]),
    ]
    .concat();
    let contents = read(&stream);
    let expected = [
        found(b"head", Some(0), (true, false, false)),
        found(b"a", None, (false, false, false)),
        found(b"", None, (false, false, false)),
        found(&full, Some(48), (false, false, false)),
        found(&[&full[..], &full, b"end"].concat(), None, (false, false, true)),
        found(b"b", Some(96), (false, true, false)),
    ];
    assert_eq!(contents.packets, expected);
    assert_eq!(contents.ends, [(1, Some(96))]);
}

#[test]
fn a_packet_ends_at_a_position() {
    let stream = [page(2, 0, 1, 0, &[b"head"]), page(4, -1, 1, 1, &[b"a"])].concat();
    assert_eq!(
        message_of(&stream),
        "expected a granule position on the page at byte 32, where a packet ends, got none"
    );
}

#[test]
fn last_page_may_be_empty() {
    let contents = read(&[page(2, 0, 1, 5, &[b"head"]), page(4, 7, 1, 6, &[])].concat());
    assert_eq!(contents.packets, [found(b"head", Some(0), (true, false, false))]);
    assert_eq!(contents.ends, [(1, Some(7))]);
}

#[test]
fn streams_follow_one_another() {
    let stream = [page(2 | 4, 3, 1, 0, &[b"a"]), page(2, 0, 2, 0, &[b"b"]), page(4, 9, 2, 1, &[b"c"])].concat();
    let contents = read(&stream);
    let starts: Vec<_> = contents.packets.iter().map(|packet| (packet.serial, packet.flags)).collect();
    assert_eq!(starts, [(1, (true, true, false)), (2, (true, false, false)), (2, (false, true, false))]);
    assert_eq!(contents.ends, [(1, Some(3)), (2, Some(9))]);
}

#[test]
fn what_is_broken_is_refused() {
    let head = page(2, 0, 1, 0, &[b"head"]);
    let follow = |next: Vec<u8>| [head.clone(), next].concat();
    let mut damaged = page(0, 0, 1, 1, &[b"x"]);
    let sum = checksum(&damaged);
    damaged[28] ^= 1;
    let damaged_sum = checksum(&damaged);
    let mut version = page(0, 0, 1, 1, &[]);
    version[4] = 3;
    let full = [0; 255];
    let cases = [
        (Vec::new(), "expected an Ogg stream, got no page".to_owned()),
        (vec![b'R'; 30], "expected \"OggS\" at byte 0, got \"RRRR\"".to_owned()),
        (follow(vec![0; 27]), "expected \"OggS\" at byte 32, got \"\\0\\0\\0\\0\"".to_owned()),
        (
            follow(b"Ogg".to_vec()),
            "expected a whole page at byte 32, got the end of the stream after 3 bytes of it".to_owned(),
        ),
        (follow(version), "expected version 0 of the page at byte 32, got 3".to_owned()),
        (follow(damaged), format!("expected checksum {sum:#010x} of the page at byte 32, got {damaged_sum:#010x}")),
        (
            page(0, 0, 1, 4, &[b"x"]),
            "expected the first page of a stream, got page 4 of stream 0x00000001 at byte 0".to_owned(),
        ),
        (
            follow(page(0, 0, 1, 2, &[b"x"])),
            "expected page 1 of stream 0x00000001, got page 2 of stream 0x00000001 at byte 32".to_owned(),
        ),
        (
            follow(page(2, 0, 2, 0, &[b"x"])),
            "expected stream 0x00000001 until its last page, got page 0 of stream 0x00000002 at byte 32".to_owned(),
        ),
        (
            follow(page(2, 0, 1, 1, &[b"x"])),
            "expected one first page of a stream, got another as page 1 of stream 0x00000001 at byte 32".to_owned(),
        ),
        (
            follow(page(1, 0, 1, 1, &[b"x"])),
            "expected a page that starts a packet, got one that continues one, page 1 of stream 0x00000001 at byte 32"
                .to_owned(),
        ),
        (
            follow([page(0, -1, 1, 1, &[&full]), page(0, 0, 1, 2, &[b"x"])].concat()),
            "expected a page that continues a packet, got one that starts one, page 2 of stream 0x00000001 at byte 315"
                .to_owned(),
        ),
        (
            follow(page(4, -1, 1, 1, &[&full])),
            "expected the end of a packet on the last page, at byte 32, got 255 bytes that go on".to_owned(),
        ),
        (head.clone(), "expected the last page of stream 0x00000001, got the end after page 0".to_owned()),
    ];
    for (stream, text) in cases {
        assert_eq!(message_of(&stream), text);
    }
}

#[test]
fn packets_are_limited() {
    let full = [&[0_u8; 255][..]; 255];
    let mut stream = page(2, -1, 1, 0, &full);
    for sequence in 1..=16 {
        stream.extend(page(1, -1, 1, sequence, &full));
    }
    assert_eq!(
        message_of(&stream),
        format!("expected packets of at most 1048576 bytes, got 1105425 bytes on the page at byte {}", 65307 * 16)
    );
    let text = PageWriter::new(1).push_packet(&vec![0; MAX_PACKET_BYTES + 1], 0, false, &mut Vec::new());
    let text = text.expect_err("long").to_string();
    assert_eq!(text, "expected packets of at most 1048576 bytes, got 1048577 bytes");
    let error = PageWriter::new(1).push_packet(&[], u64::MAX, false, &mut Vec::new()).expect_err("no position");
    assert_eq!(error.to_string(), "expected a granule position below 18446744073709551615, got 18446744073709551615");
}

#[test]
fn error_of_the_caller_is_permanent() {
    let mut reader = PacketReader::new();
    let stream = page(2, 0, 1, 0, &[b"head"]);
    let error = crate::Error::FrameBytes;
    assert_eq!(reader.feed(&stream, |_| Err(error.clone())), Err(error.clone()));
    assert_eq!(reader.feed(&[], |_| Ok(())), Err(error.clone()));
    assert_eq!(reader.close(), Err(error));
}

#[test]
fn pages_are_written_as_the_caller_says() {
    let mut stream = Vec::new();
    let mut writer = PageWriter::new(1);
    for (packet, granule_position, ends_page) in [(&b"head"[..], 0, true), (b"a", 1, false), (b"bc", 2, false)] {
        writer.push_packet(packet, granule_position, ends_page, &mut stream).expect("short");
    }
    writer.finish(&mut stream);
    assert_eq!(stream, [page(2, 0, 1, 0, &[b"head"]), page(4, 2, 1, 1, &[b"a", b"bc"])].concat());

    let mut stream = Vec::new();
    PageWriter::new(1).finish(&mut stream);
    assert_eq!(stream, page(2 | 4, 0, 1, 0, &[]));
}

#[test]
fn page_without_the_end_of_a_packet_has_no_position() {
    let mut stream = Vec::new();
    let mut writer = PageWriter::new(1);
    writer.push_packet(&vec![5; 255 * 255 * 2], 9, false, &mut stream).expect("short");
    writer.finish(&mut stream);
    let full = [&[5_u8; 255][..]; 255];
    let expected = [page(2, -1, 1, 0, &full), page(1, -1, 1, 1, &full), page(1 | 4, 9, 1, 2, &[b""])].concat();
    assert!(stream == expected);
}

/// Sizes around the places where lacing changes.
fn packet_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..300_usize,
        2 => (1..5_usize, 0..3_usize).prop_map(|(segments, near)| segments * 255 + near - 1),
        1 => (1..4_usize, 0..3_usize).prop_map(|(pages, near)| pages * 255 * 255 + near - 1),
        1 => 60_000..200_000_usize,
    ]
}

fn packet(index: usize, num_bytes: usize) -> Vec<u8> {
    (0..num_bytes).map(|position| (position * 7 + index) as u8).collect()
}

fn write(sizes: &[(usize, bool)], serial: u32) -> Vec<u8> {
    let (mut stream, mut writer) = (Vec::new(), PageWriter::new(serial));
    for (index, (num_bytes, ends_page)) in sizes.iter().enumerate() {
        let packet = packet(index, *num_bytes);
        writer.push_packet(&packet, index as u64 * 960, *ends_page, &mut stream).expect("short");
    }
    writer.finish(&mut stream);
    stream
}

fn read_with_ogg_crate(stream: &[u8]) -> Vec<Found> {
    let mut reader = ogg::PacketReader::new(std::io::Cursor::new(stream));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().expect("valid") {
        let flags = (packet.first_in_stream(), packet.last_in_stream(), false);
        let granule_position = packet.last_in_page().then_some(packet.absgp_page());
        packets.push(Found { serial: packet.stream_serial(), granule_position, flags, data: packet.data });
    }
    packets
}

#[test]
fn page_without_segments_leaves_an_open_packet_open() {
    let open = page(FLAG_FIRST, -1, 1, 0, &[&[b'A'; 255]]);
    let empty = page(FLAG_CONTINUED, -1, 1, 1, &[]);
    let rest = page(FLAG_CONTINUED | FLAG_LAST, 5, 1, 2, &[b"CCC"]);
    let (contents, result) = read_in_pieces(&[&open[..], &empty, &rest].concat(), &[]);
    assert_eq!(result, Ok(()));
    assert_eq!(contents.packets.len(), 1);
    assert_eq!(contents.packets[0].data, [&[b'A'; 255][..], b"CCC"].concat());
    let broken = [
        vec![page(0, -1, 1, 2, &[&[b'B'; 255]]), page(FLAG_CONTINUED | FLAG_LAST, 5, 1, 3, &[b"CCC"])],
        vec![page(FLAG_LAST, 5, 1, 2, &[b"CCC"])],
        vec![page(FLAG_CONTINUED | FLAG_LAST, 5, 1, 2, &[])],
    ];
    for pages in broken {
        let stream = [&open[..], &empty, &pages.concat()].concat();
        let (contents, result) = read_in_pieces(&stream, &[]);
        assert!(result.is_err(), "{contents:?}");
        assert!(contents.packets.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn written_packets_are_read_alike_by_us_and_by_the_ogg_crate(
        sizes in prop::collection::vec((packet_bytes(), any::<bool>()), 0..12),
    ) {
        let stream = write(&sizes, 0xDEAD_BEEF);
        let contents = read(&stream);
        prop_assert_eq!(contents.packets.len(), sizes.len());
        for (index, (found, (num_bytes, _))) in contents.packets.iter().zip(&sizes).enumerate() {
            prop_assert!(found.data == packet(index, *num_bytes));
            prop_assert!(found.granule_position.is_none_or(|position| position == index as u64 * 960));
        }
        let last = sizes.len().saturating_sub(1) as u64 * 960;
        prop_assert_eq!(contents.ends, vec![(0xDEAD_BEEF, Some(last))]);

        let theirs = read_with_ogg_crate(&stream);
        prop_assert_eq!(theirs.len(), contents.packets.len());
        for (mut their, our) in theirs.into_iter().zip(contents.packets) {
            // It does not tell whether a packet is continued, and such a packet is not the first to it.
            their.flags.2 = our.flags.2;
            their.flags.0 |= our.flags.0 && our.flags.2;
            prop_assert!(their == our);
        }
    }

    #[test]
    fn packets_of_the_ogg_crate_are_read(
        sizes in prop::collection::vec((packet_bytes(), any::<bool>()), 1..12),
    ) {
        let mut stream = Vec::new();
        let mut writer = ogg::PacketWriter::new(&mut stream);
        for (index, (num_bytes, ends_page)) in sizes.iter().enumerate() {
            let end = match ends_page {
                _ if index + 1 == sizes.len() => ogg::PacketWriteEndInfo::EndStream,
                true => ogg::PacketWriteEndInfo::EndPage,
                false => ogg::PacketWriteEndInfo::NormalPacket,
            };
            writer.write_packet(packet(index, *num_bytes), 77, end, index as u64 * 960).expect("a Vec takes all");
        }
        let contents = read(&stream);
        for (index, (found, (num_bytes, _))) in contents.packets.iter().zip(&sizes).enumerate() {
            prop_assert!(found.data == packet(index, *num_bytes));
        }
        prop_assert_eq!(contents.ends, vec![(77, Some((sizes.len() as u64 - 1) * 960))]);
    }

    #[test]
    fn any_cut_gives_the_same_packets(
        first in prop::collection::vec((packet_bytes(), any::<bool>()), 0..6),
        second in prop::collection::vec((packet_bytes(), any::<bool>()), 0..6),
        damage in prop::option::of((any::<prop::sample::Index>(), 1..=255_u8)),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut stream = [write(&first, 1), write(&second, 2)].concat();
        if let Some((position, difference)) = damage {
            let position = position.index(stream.len());
            stream[position] ^= difference;
        }
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        let (whole, pieces) = (read_in_pieces(&stream, &[]), read_in_pieces(&stream, &cuts));
        prop_assert!(damage.is_none() || whole.1.is_err());
        prop_assert!(whole == pieces);
    }
}

#[test]
fn stream_is_cut_at_every_byte() {
    let stream = write(&[(4, true), (0, false), (255, false), (300, true), (3, false)], 1);
    let whole = read_in_pieces(&stream, &[]);
    assert_eq!((whole.0.packets.len(), &whole.1), (5, &Ok(())));
    for cut in 0..=stream.len() {
        assert_eq!(read_in_pieces(&stream, &[cut]), whole);
    }
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(read_in_pieces(&stream, &every), whole);
}
