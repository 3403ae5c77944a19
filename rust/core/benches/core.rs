//! The hot calls at the sizes of a telephone call: 20 ms of audio, and messages of 80 ms.

// criterion's macro makes a public function that it does not document.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use speechwire_core::g711::{Law, decode_into, encode_into};
use speechwire_core::message::{AudioFields, Value, decode_message, encode_audio_message};
use speechwire_core::{Quality, Resampler, SampleFormat};
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
    for (input_rate, output_rate) in
        [(8_000, 24_000), (24_000, 8_000), (16_000, 24_000), (48_000, 8_000), (44_100, 24_000)]
    {
        let chunk = noise(input_rate as usize / 50 * 2);
        let resampler = Resampler::new(input_rate, output_rate, Quality::Balanced, SampleFormat::S16);
        let mut resampler = resampler.expect("a common pair");
        group.bench_function(format!("{input_rate} to {output_rate}"), |bencher| {
            bencher.iter(|| resampler.feed(black_box(&chunk)));
        });
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
    let audio = noise(7680);
    let text = encode_audio_message(&FIELDS, &audio, None);
    let mut decoded = vec![0; audio.len()];
    criterion.bench_function("encode message 80 ms", |bencher| {
        bencher.iter(|| encode_audio_message(&FIELDS, black_box(&audio), None));
    });
    criterion.bench_function("decode message 80 ms", |bencher| {
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

criterion_group!(benches, bench_resample, bench_g711, bench_message);
criterion_main!(benches);
