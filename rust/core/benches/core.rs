//! The hot calls at the sizes of a telephone call: 20 and 80 ms of audio, and messages of them.
//!
//! Throughput is in bytes that are fed, or in samples where both sides of a call have the same number of them.

// criterion's macro makes a public function that it does not document.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use speechwire_core::g711::{Law, decode_into, encode_into};
use speechwire_core::message::{AudioFields, Value, decode_message, encode_audio_message};
use speechwire_core::pcm::{pcm_from_float_into, pcm_to_float_into};
use speechwire_core::{Format, FrameSlicer, Quality, Resampler, SampleFormat, Transcoder, WavReader, WavWriter};
use std::hint::black_box;

const FIELDS: AudioFields<'_> =
    AudioFields { message_type: ("type", "audio"), audio: "audio", request_id: "client_req_id" };

/// Bytes that no branch predictor learns, from a linear congruential generator.
fn noise(num_bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(num_bytes).collect()
}

fn bench_resample(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resample 20 ms");
    let pairs =
        [(8_000, 24_000), (24_000, 8_000), (16_000, 24_000), (24_000, 48_000), (48_000, 8_000), (44_100, 24_000)];
    for (input_rate, output_rate) in pairs {
        for quality in [Quality::Balanced, Quality::LowLatency, Quality::High] {
            let chunk = noise(input_rate as usize / 50 * 2);
            let resampler = Resampler::new(input_rate, output_rate, quality, SampleFormat::S16);
            let mut resampler = resampler.expect("a common pair");
            let mut output = vec![0; output_rate as usize / 50 * 2];
            group.throughput(Throughput::Bytes(chunk.len() as u64));
            group.bench_function(format!("{input_rate} to {output_rate} {quality:?}"), |bencher| {
                bencher.iter(|| resampler.feed_into(black_box(&chunk), black_box(&mut output)));
            });
        }
    }
}

fn bench_g711(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("g711");
    for num_samples in [160, 1920, 240_000] {
        let (mut pcm, mut codes) = (noise(num_samples * 2), noise(num_samples));
        group.throughput(Throughput::Elements(num_samples as u64));
        for law in [Law::Ulaw, Law::Alaw] {
            group.bench_function(format!("encode {law:?} {num_samples}"), |bencher| {
                bencher.iter(|| encode_into(law, black_box(&pcm), black_box(&mut codes)));
            });
            group.bench_function(format!("decode {law:?} {num_samples}"), |bencher| {
                bencher.iter(|| decode_into(law, black_box(&codes), black_box(&mut pcm)));
            });
        }
    }
}

fn bench_message(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message of 24 kHz");
    for duration_ms in [20, 80, 320] {
        let audio = noise(24 * duration_ms * 2);
        let text = encode_audio_message(&FIELDS, &audio, None);
        let mut decoded = vec![0; audio.len()];
        group.throughput(Throughput::Bytes(audio.len() as u64));
        group.bench_function(format!("build {duration_ms} ms"), |bencher| {
            bencher.iter(|| encode_audio_message(&FIELDS, black_box(&audio), None));
        });
        group.bench_function(format!("parse {duration_ms} ms"), |bencher| {
            bencher.iter(|| {
                let fields = decode_message(black_box(text.as_bytes()), FIELDS.audio).expect("valid");
                for (_, value) in &fields {
                    if let Value::Audio(base64) = value {
                        base64.decode_into(&mut decoded).expect("valid");
                    }
                }
            });
        });
    }
}

fn bench_pcm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pcm");
    for num_samples in [480, 1920, 240_000] {
        let mut pcm = noise(num_samples * 2);
        let mut floats = vec![0; num_samples * 4];
        group.throughput(Throughput::Elements(num_samples as u64));
        group.bench_function(format!("to float {num_samples}"), |bencher| {
            bencher.iter(|| pcm_to_float_into(black_box(&pcm), black_box(&mut floats)));
        });
        group.bench_function(format!("from float {num_samples}"), |bencher| {
            bencher.iter(|| pcm_from_float_into(black_box(&floats), black_box(&mut pcm)));
        });
    }
}

fn bench_slicer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slicer");
    // Frames of 80 ms at 24 kHz from 20 ms, from many of them at once, and from chunks that fit no frame.
    for chunk_bytes in [960, 38_400, 1001] {
        let chunk = noise(chunk_bytes);
        let mut slicer = FrameSlicer::new(3840).expect("not empty");
        group.throughput(Throughput::Bytes(chunk_bytes as u64));
        group.bench_function(format!("{chunk_bytes} to 3840"), |bencher| {
            bencher.iter(|| slicer.feed(black_box(&chunk), |frame| _ = black_box(frame)));
        });
    }
}

fn bench_transcode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transcode");
    for (source, target, chunk_bytes, frame_ms) in [
        ("ulaw_8000", "pcm_24000", 160, 80.0),
        ("pcm_48000", "ulaw_8000", 7680, 20.0),
        ("alaw_8000", "ulaw_8000", 160, 20.0),
        ("pcm_24000", "pcm_24000", 960, 80.0),
    ] {
        let chunk = noise(chunk_bytes);
        let from = Format::parse_source(source).expect("a format");
        let to = Format::parse_target(target).expect("a format");
        let mut transcoder = Transcoder::new(from, to, Some(frame_ms)).expect("a common pair");
        group.throughput(Throughput::Bytes(chunk_bytes as u64));
        group.bench_function(format!("{source} to {target}, {chunk_bytes} bytes"), |bencher| {
            bencher.iter(|| transcoder.feed(black_box(&chunk), |frame| _ = black_box(frame)));
        });
    }
}

fn bench_wav(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wav 80 ms");
    let pcm = noise(7680);
    group.throughput(Throughput::Bytes(pcm.len() as u64));
    group.bench_function("read 16-bit", |bencher| {
        let mut reader = WavReader::new();
        let mut output = Vec::with_capacity(pcm.len());
        let header = WavWriter::new(48_000, 1, None).expect("a common rate").header();
        reader.feed(&header, &mut output).expect("a header");
        bencher.iter(|| {
            output.clear();
            reader.feed(black_box(&pcm), &mut output)
        });
    });
    group.bench_function("write", |bencher| {
        let mut writer = WavWriter::new(48_000, 1, None).expect("a common rate");
        bencher.iter(|| writer.feed(black_box(&pcm)));
    });
}

criterion_group!(
    benches,
    bench_resample,
    bench_g711,
    bench_pcm,
    bench_message,
    bench_slicer,
    bench_transcode,
    bench_wav
);
criterion_main!(benches);
