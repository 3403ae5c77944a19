//! The reader and the writer together, and streams made by hand. The Python tests compare with other programs.

use super::*;
use crate::Result;
use crate::ogg::{Event, PacketReader, PageWriter};
use proptest::prelude::*;

/// The header of a stream in the given layout.
fn head(version: u8, num_channels: u8, pre_skip: u16, gain: i16, family: u8) -> Vec<u8> {
    let mut packet = b"OpusHead".to_vec();
    packet.extend([version, num_channels]);
    packet.extend(pre_skip.to_le_bytes());
    packet.extend(48_000_u32.to_le_bytes());
    packet.extend(gain.to_le_bytes());
    packet.push(family);
    packet
}

/// A page of packets, with the granule position at its end.
type AudioPage<'a> = (u64, &'a [&'a [u8]]);

/// A stream of these headers and pages, the last of them with the end of the stream.
fn stream_of(headers: &[&[u8]], pages: &[AudioPage<'_>]) -> Vec<u8> {
    let (mut writer, mut stream) = (PageWriter::new(7), Vec::new());
    for packet in headers {
        writer.push_packet(packet, 0, true, &mut stream).expect("short");
    }
    for (page_index, (position, packets)) in pages.iter().enumerate() {
        for (index, packet) in packets.iter().enumerate() {
            let ends_page = index + 1 == packets.len() && page_index + 1 < pages.len();
            writer.push_packet(packet, *position, ends_page, &mut stream).expect("short");
        }
    }
    writer.finish(&mut stream);
    stream
}

const TAGS: &[u8] = b"OpusTags\0\0\0\0\0\0\0\0";
/// 20 ms of silence in the band of a telephone, in mono.
const SILENCE: &[u8] = &[0x08, 0xFF, 0xFE];

/// A stream of 20 ms packets of silence without pre-skip.
fn silence(pages: &[(u64, usize)]) -> Vec<u8> {
    let packets = [SILENCE; 8];
    let pages: Vec<AudioPage<'_>> = pages.iter().map(|(position, count)| (*position, &packets[..*count])).collect();
    stream_of(&[&head(1, 1, 0, 0, 0), TAGS], &pages)
}

fn read_in_pieces(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Result<()>) {
    let (mut reader, mut output) = (OggOpusReader::new(), Vec::new());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&stream.len())).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        let mut pcm = Vec::new();
        // A failure is permanent: `close` returns it.
        if reader.feed(&stream[pair[0]..pair[1]], &mut pcm).is_ok() {
            output.extend(pcm);
        }
    }
    (output, reader.close())
}

fn read(stream: &[u8]) -> Vec<u8> {
    let (pcm, result) = read_in_pieces(stream, &[]);
    assert_eq!(result, Ok(()));
    pcm
}

fn message_of(stream: &[u8]) -> String {
    read_in_pieces(stream, &[]).1.expect_err("refused").to_string()
}

fn writer(sample_rate: u32, frame_ms: f64) -> OggOpusWriter {
    OggOpusWriter::new(sample_rate, 1, DEFAULT_BITRATE, frame_ms).expect("valid")
}

/// The items of a stream: the header, then the pages.
fn write(writer: &mut OggOpusWriter, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    for chunk in chunks {
        writer.feed(chunk, |item| items.push(item.to_vec())).expect("encoded");
    }
    writer.flush(|item| items.push(item.to_vec())).expect("whole samples");
    items
}

/// A vowel on a falling pitch: something that all parts of the encoder have to do with.
fn voice(num_samples: usize, sample_rate: u32) -> Vec<u8> {
    let sample = |index: usize| {
        let time = index as f32 / sample_rate as f32;
        let phase = time * (140.0 - 20.0 * time) * std::f32::consts::TAU;
        let harmonics: f32 = (1..20_i8).map(|k| (phase * f32::from(k)).sin() / f32::from(k)).sum();
        (harmonics * 6_000.0) as i16
    };
    (0..num_samples).flat_map(|index| sample(index).to_le_bytes()).collect()
}

#[test]
fn what_comes_out_is_as_long_as_what_went_in() {
    for sample_rate in [8_000_u32, 12_000, 16_000, 24_000, 48_000] {
        let mut writer = writer(sample_rate, 20.0);
        for num_samples in [0, 1, 300, 959, 960, 961, 5_000] {
            let stream = write(&mut writer, &[&voice(num_samples, sample_rate)]).concat();
            let num_outputs = num_samples * (48_000 / sample_rate) as usize;
            assert_eq!(read(&stream).len(), num_outputs * 2, "{num_samples} at {sample_rate} Hz");
        }
    }
}

#[test]
fn what_comes_out_sounds_like_what_went_in() {
    let pcm = voice(48_000, 48_000);
    let output = read(&write(&mut writer(48_000, 20.0), &[&pcm]).concat());
    let samples = |pcm: &[u8]| -> Vec<f64> {
        pcm.as_chunks::<2>().0.iter().map(|sample| f64::from(i16::from_le_bytes(*sample))).collect()
    };
    let (input, output) = (samples(&pcm), samples(&output));
    let power: f64 = input.iter().map(|sample| sample * sample).sum();
    let noise: f64 = input.iter().zip(&output).map(|(a, b)| (a - b) * (a - b)).sum();
    // It is 28 dB, and 24 or less if the pre-skip is off by one sample.
    assert!(power / noise > 400.0, "{} dB", 10.0 * (power / noise).log10());
}

#[test]
fn a_page_comes_with_the_sample_that_completes_it() {
    for (frame_ms, num_packets) in
        [(2.5, 1), (5.0, 1), (10.0, 1), (15.0, 3), (20.0, 1), (60.0, 3), (80.0, 4), (1000.0, 50)]
    {
        let mut writer = writer(48_000, frame_ms);
        let mut num_items = 0;
        writer.feed(&[], |item| num_items += usize::from(item == writer_header(frame_ms))).expect("header");
        assert_eq!(num_items, 1);
        let frame = vec![0; (frame_ms * 96.0) as usize];
        for _ in 0..3 {
            writer.feed(&frame[..frame.len() - 1], |_| panic!("{frame_ms} ms: early")).expect("encoded");
            let mut pages = Vec::new();
            writer.feed(&frame[..1], |page| pages.push(page.to_vec())).expect("encoded");
            assert_eq!((pages.len(), pages[0][5], pages[0][26]), (1, 0, num_packets), "{frame_ms} ms");
        }
    }
}

fn writer_header(frame_ms: f64) -> Vec<u8> {
    writer(48_000, frame_ms).header().to_vec()
}

#[test]
fn positions_count_from_the_pre_skip_and_end_with_the_audio() {
    let items = write(&mut writer(16_000, 80.0), &[&[0; 16_000 / 5 * 2]]);
    let (mut reader, mut positions) = (PacketReader::new(), Vec::new());
    let result = reader.feed(&items.concat(), |event| {
        match event {
            Event::Packet(packet) => positions.extend(packet.granule_position),
            Event::End { granule_position, .. } => positions.extend(granule_position),
        }
        Ok(())
    });
    assert_eq!((result, reader.close()), (Ok(()), Ok(())));
    let end = 312 + 48_000 / 5;
    assert_eq!(positions, [0, 0, 3840, 7680, end, end]);
    assert_eq!(items.len(), 4);
}

#[test]
fn a_frame_of_many_bytes_is_one_item() {
    let mut writer = OggOpusWriter::new(48_000, 1, 510_000, 1000.0).expect("valid");
    let noise: Vec<u8> = (0..96_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let items = write(&mut writer, &[&noise]);
    assert_eq!(items.len(), 3);
    assert!(items[1].len() > 50_000, "{} bytes", items[1].len());
    assert_eq!(read(&items.concat()).len(), noise.len());
}

#[test]
fn what_the_writer_cannot_do_is_named() {
    let cases = [
        ((44_100, 64_000, 20.0), "expected a sample rate of 8000, 12000, 16000, 24000 or 48000 Hz, got 44100"),
        ((8_000, 5_999, 20.0), "expected a bitrate of 6000 to 510000 bits per second, got 5999"),
        ((8_000, -1, 20.0), "expected a bitrate of 6000 to 510000 bits per second, got -1"),
        ((8_000, (1 << 32) + 64_000, 20.0), "expected a bitrate of 6000 to 510000 bits per second, got 4295031296"),
        ((8_000, 510_001, 20.0), "expected a bitrate of 6000 to 510000 bits per second, got 510001"),
        ((8_000, 64_000, 21.0), "expected a frame of a multiple of 2.5 ms up to 1000 ms, got 21 ms"),
        ((8_000, 64_000, 1002.5), "expected a frame of a multiple of 2.5 ms up to 1000 ms, got 1002.5 ms"),
        ((8_000, 64_000, 0.0), "expected a frame of a multiple of 2.5 ms up to 1000 ms, got 0 ms"),
        ((8_000, 64_000, f64::NAN), "expected a frame of a multiple of 2.5 ms up to 1000 ms, got NaN ms"),
    ];
    for ((sample_rate, bitrate, frame_ms), text) in cases {
        let error = OggOpusWriter::new(sample_rate, 1, bitrate, frame_ms).expect_err(text);
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_partial_sample_waits_for_its_rest() {
    let mut writer = writer(8_000, 20.0);
    writer.feed(&[1, 2, 3], |_| {}).expect("encoded");
    let error = writer.flush(|_| panic!("nothing is passed")).expect_err("odd");
    assert_eq!(error.to_string(), "expected whole samples of 2 bytes, got 3 bytes");
    let mut rest = Vec::new();
    writer.feed(&[4], |_| {}).expect("encoded");
    writer.flush(|page| rest.extend_from_slice(page)).expect("whole");
    let stream = [writer.header(), &rest].concat();
    assert_eq!(read(&stream).len(), 2 * 6 * 2);
}

#[test]
fn the_reader_tells_what_the_header_says() {
    let mut reader = OggOpusReader::new();
    assert_eq!((reader.sample_rate(), reader.num_channels()), (None, None));
    let stream = stream_of(&[&head(1, 2, 0, 0, 0), TAGS], &[(960, &[SILENCE])]);
    let mut pcm = Vec::new();
    reader.feed(&stream, &mut pcm).expect("valid");
    assert_eq!((reader.sample_rate(), reader.num_channels()), (Some(48_000), Some(2)));
    assert_eq!(pcm.len(), 960 * 4);
}

#[test]
fn headers_of_another_kind_are_refused() {
    let long = [&head(15, 1, 0, 0, 0)[..], b"more"].concat();
    assert_eq!(read(&stream_of(&[&long, TAGS], &[(960, &[SILENCE])])).len(), 1920);
    let cases: [(&[u8], &str); 7] = [
        (b"\x01vorbis and so on", "expected the header \"OpusHead\", got \"\\u{1}vorbis \""),
        (b"OpusHead\x01\x01", "expected an \"OpusHead\" of at least 19 bytes, got 10 bytes"),
        (&head(16, 1, 0, 0, 0), "expected version 0 to 15 of \"OpusHead\", got 16"),
        (&head(1, 6, 0, 0, 1), "expected channel mapping family 0, got family 1 with 6 channels"),
        (&head(1, 4, 0, 0, 255), "expected channel mapping family 0, got family 255 with 4 channels"),
        (&head(1, 3, 0, 0, 0), "expected 1 or 2 channels in channel mapping family 0, got 3"),
        (&head(1, 0, 0, 0, 0), "expected 1 or 2 channels in channel mapping family 0, got 0"),
    ];
    for (packet, text) in cases {
        assert_eq!(message_of(&stream_of(&[packet, TAGS], &[])), text);
    }
    let head = head(1, 1, 0, 0, 0);
    assert_eq!(
        message_of(&stream_of(&[&head, SILENCE], &[])),
        "expected the header \"OpusTags\", got \"\\u{8}\u{fffd}\u{fffd}\""
    );
    assert_eq!(message_of(&stream_of(&[&head], &[])), "expected the header \"OpusTags\", got the end of the stream");
}

#[test]
fn the_last_page_says_where_the_audio_ends() {
    // (granule position, packets) of each page, and the samples that come out.
    let cases: [(&[(u64, usize)], usize); 8] = [
        (&[(1920, 2)], 1920),
        (&[(1000, 2)], 1000),
        (&[(960, 1), (2880, 2)], 2880),
        (&[(960, 1), (1000, 2)], 1000),
        (&[(960, 1), (960, 2)], 960),
        (&[(0, 1)], 0),
        // The head was cut off: the first page ends later than it is long.
        (&[(96_000, 1), (96_500, 1)], 1460),
        // The position is beyond the audio.
        (&[(5_000, 1)], 960),
    ];
    for (pages, num_samples) in cases {
        assert_eq!(read(&silence(pages)).len(), num_samples * 2, "{pages:?}");
    }
}

#[test]
fn positions_that_cannot_be_are_refused() {
    let cases: [(&[(u64, usize)], &str); 3] = [
        (&[(959, 1), (1919, 1)], "expected a granule position of at least 960 after packet 2 of the stream, got 959"),
        (
            &[(5000, 1), (4999, 1), (6000, 1)],
            "expected a granule position of at least 5000 after packet 3 of the stream, got 4999",
        ),
        (&[(960, 1), (959, 1)], "expected a granule position of at least 960 on the last page, got 959"),
    ];
    for (pages, text) in cases {
        assert_eq!(message_of(&silence(pages)), text);
    }
    let stream = stream_of(&[&head(1, 1, 312, 0, 0), TAGS], &[(311, &[SILENCE])]);
    assert_eq!(message_of(&stream), "expected at least 312 samples of pre-skip before the end of the stream, got 311");
}

#[test]
fn the_pre_skip_is_thrown_away_whatever_its_length() {
    for (pre_skip, num_samples) in [(0, 2880), (312, 2568), (960, 1920), (2000, 880), (2880, 0)] {
        let head = head(1, 1, pre_skip, 0, 0);
        let stream = stream_of(&[&head, TAGS], &[(960, &[SILENCE]), (2880, &[SILENCE, SILENCE])]);
        assert_eq!(read(&stream).len(), num_samples * 2, "{pre_skip}");
    }
    // No position is too late.
    let stream = stream_of(&[&head(1, 1, u16::MAX, 0, 0), TAGS], &[(u64::MAX - 1, &[SILENCE])]);
    assert_eq!(
        message_of(&stream),
        "expected at least 65535 samples of pre-skip before the end of the stream, got 960"
    );
    // The end is counted from the start of the page, so it may fall into what is thrown away.
    let stream = stream_of(&[&head(1, 1, 1000, 0, 0), TAGS], &[(960, &[SILENCE]), (1200, &[SILENCE, SILENCE])]);
    assert_eq!(read(&stream).len(), 200 * 2);
}

#[test]
fn the_gain_of_the_header_is_applied() {
    let pcm = voice(9_600, 48_000);
    let stream = write(&mut writer(48_000, 20.0), &[&pcm]).concat();
    let peak = |stream: &[u8]| {
        let pcm = read(stream);
        f64::from(pcm.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).max().expect("audio"))
    };
    let halved = with_gain(&stream, (-6.0206_f64 * 256.0).round() as i16);
    let ratio = peak(&halved) / peak(&stream);
    assert!((ratio - 0.5).abs() < 0.001, "{ratio}");
    assert!(peak(&with_gain(&stream, 256 * 30)) > 32_766.0);
}

/// The same stream with another gain in its header.
fn with_gain(stream: &[u8], gain: i16) -> Vec<u8> {
    let mut stream = stream.to_vec();
    stream[28 + 16..28 + 18].copy_from_slice(&gain.to_le_bytes());
    let checksum = crate::ogg::checksum(&stream[..28 + 19]);
    stream[22..26].copy_from_slice(&checksum.to_le_bytes());
    stream
}

#[test]
fn packets_that_are_none_are_refused() {
    let head = head(1, 1, 0, 0, 0);
    let cases: [(&[u8], &str); 2] = [
        (&[], "expected an Opus packet, got 0 bytes in packet 3 of the stream (an empty packet)"),
        // Two frames of the same size cannot have an odd number of bytes.
        (&[0x09, 1, 2, 3], "expected an Opus packet, got 4 bytes in packet 3 of the stream (corrupted stream)"),
    ];
    for (packet, text) in cases {
        assert_eq!(message_of(&stream_of(&[&head, TAGS], &[(1920, &[SILENCE, packet])])), text);
    }
}

#[test]
fn streams_of_a_chain_follow_one_another() {
    let parts = [silence(&[(960, 1), (1500, 1)]), silence(&[(1000, 2)]), silence(&[])];
    assert_eq!(read(&parts.concat()).len(), 2500 * 2);
    let stereo = stream_of(&[&head(1, 2, 0, 0, 0), TAGS], &[(960, &[SILENCE])]);
    let text = "expected 1 channel in all streams of the chain, got 2 channels";
    assert_eq!(message_of(&[&parts[0][..], &stereo].concat()), text);
}

#[test]
fn a_stream_without_its_last_page_is_refused() {
    let items = write(&mut writer(48_000, 20.0), &[&voice(9_600, 48_000)]);
    let stream = items[..items.len() - 1].concat();
    assert_eq!(message_of(&stream), "expected the last page of stream 0x00000001, got the end after page 11");
    assert_eq!(message_of(&[]), "expected an Ogg stream, got no page");
}

#[test]
fn failure_is_permanent() {
    let mut reader = OggOpusReader::new();
    let mut stream = silence(&[(960, 1)]);
    let last = stream.len() - 1;
    stream[last] ^= 1;
    let error = reader.feed(&stream, &mut Vec::new()).expect_err("checksum");
    assert!(error.to_string().contains("of the page at byte"), "{error}");
    assert_eq!(reader.feed(&[], &mut Vec::new()), Err(error.clone()));
    assert_eq!(reader.close(), Err(error));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_gives_the_same_audio(
        num_samples in 0_usize..6_000,
        frame_ms in prop::sample::select(vec![2.5, 20.0, 80.0]),
        num_parts in 1_usize..3,
        cuts in prop::collection::vec(0_usize..4_000, 0..12),
    ) {
        let part = write(&mut writer(24_000, frame_ms), &[&voice(num_samples, 24_000)]).concat();
        let stream = part.repeat(num_parts);
        let expected = read_in_pieces(&stream, &[]);
        prop_assert_eq!(&expected.1, &Ok(()));
        prop_assert_eq!(expected.0.len(), num_samples * 4 * num_parts);
        prop_assert_eq!(read_in_pieces(&stream, &cuts), expected);
    }

    #[test]
    fn any_cut_gives_the_same_stream(
        num_samples in 0_usize..6_000,
        frame_ms in prop::sample::select(vec![2.5, 15.0, 20.0, 80.0]),
        cuts in prop::collection::vec(0_usize..12_000, 0..12),
    ) {
        let pcm = voice(num_samples, 16_000);
        let mut writer = writer(16_000, frame_ms);
        let expected = write(&mut writer, &[&pcm]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(pcm.len())).collect();
        cuts.extend([0, pcm.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &pcm[pair[0]..pair[1]]).collect();
        prop_assert_eq!(write(&mut writer, &chunks), expected.clone());
        // A stream that was given up leaves nothing behind.
        writer.feed(&pcm, |_| {}).expect("encoded");
        writer.reset();
        prop_assert_eq!(write(&mut writer, &[&pcm]), expected);
    }

    #[test]
    fn any_packet_is_read_or_refused(packet in prop::collection::vec(any::<u8>(), 0..300), num_channels in 1_u8..3) {
        let stream = stream_of(&[&head(1, num_channels, 0, 0, 0), TAGS], &[(u64::from(u16::MAX), &[&packet])]);
        let (pcm, result) = read_in_pieces(&stream, &[]);
        // 120 ms at most.
        prop_assert!(pcm.len() <= 5760 * 2 * usize::from(num_channels));
        prop_assert!(result.is_err() || !pcm.is_empty());
    }
}
