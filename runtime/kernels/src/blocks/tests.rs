//! What the diagrams say, what the gguf package decodes, and what llama.cpp loses.

use std::collections::HashMap;

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/blocks");

/// Recipe: tests/golden/blocks/decode.py.
#[test]
fn bytes_decode_to_what_the_gguf_package_says() {
    let golden = std::fs::read(format!("{GOLDEN}/decode.bin")).unwrap();
    let mut rest = &golden[..];
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    for _ in 0..QuantType::ALL.len() {
        let head = take(12).as_chunks::<4>().0;
        let [id, bytes, weights] = [0, 1, 2].map(|k| u32::from_le_bytes(head[k]));
        let ty = QuantType::from_gguf(id).unwrap();
        let bytes = take(bytes as usize);
        let want = take(4 * weights as usize).as_chunks::<4>().0;
        let mut got = vec![0.0; weights as usize];
        decode(ty, bytes, &mut got);
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let want = f32::from_le_bytes(*want);
            assert_eq!(got.to_bits(), want.to_bits(), "{ty} {i}: {got} {want}");
        }
    }
    assert!(rest.is_empty());
}

/// The diagrams of the K types as addresses, written apart from the decoders: where bit
/// `b` of weight `i` is, as (byte, bit).
fn place(ty: QuantType, i: usize, b: usize) -> (usize, usize) {
    let two_bits = |start: usize| (start + i / 128 * 32 + i % 32, i % 128 / 32 * 2 + b % 2);
    let nibble = |start: usize| (start + i / 64 * 32 + i % 32, i % 64 / 32 * 4 + b);
    match (ty, b) {
        (QuantType::Q2K, 0..2) => two_bits(16),
        (QuantType::Q3K, 0..2) => two_bits(32),
        (QuantType::Q3K, 2) => (i % 32, i / 32),
        (QuantType::Q4K, 0..4) => nibble(16),
        (QuantType::Q5K, 0..4) => nibble(48),
        (QuantType::Q5K, 4) => (16 + i % 32, i / 32),
        (QuantType::Q6K, 0..4) => (i / 128 * 64 + i % 64, i % 128 / 64 * 4 + b),
        (QuantType::Q6K, 4..6) => (128 + i / 128 * 32 + i % 32, i % 128 / 32 * 2 + b - 4),
        (QuantType::IQ4XS, 0..4) => (8 + i / 32 * 16 + i % 16, i % 32 / 16 * 4 + b),
        _ => panic!("{ty} has no bit {b}"),
    }
}

/// Where bit `b` of the scale (`min`: the minimum) of sub-block `j` is.
fn place_of_scale(ty: QuantType, min: bool, j: usize, b: usize) -> (usize, usize) {
    match (ty, min, b) {
        (QuantType::Q2K, false, 0..4) => (j, b),
        (QuantType::Q2K, true, 0..4) => (j, 4 + b),
        (QuantType::Q3K, false, 0..4) => (96 + j % 8, j / 8 * 4 + b),
        (QuantType::Q3K, false, 4..6) => (104 + j % 4, j / 4 * 2 + b - 4),
        (QuantType::Q4K | QuantType::Q5K, _, _) if j < 4 => (4 + j + 4 * min as usize, b),
        (QuantType::Q4K | QuantType::Q5K, _, 0..4) => (8 + j, b + 4 * min as usize),
        (QuantType::Q4K | QuantType::Q5K, _, 4..6) => (j + 4 * min as usize, 2 + b),
        (QuantType::Q6K, false, _) => (192 + j, b),
        (QuantType::IQ4XS, false, 0..4) => (4 + j / 2, j % 2 * 4 + b),
        (QuantType::IQ4XS, false, 4..6) => (2 + j / 4, j % 4 * 2 + b - 4),
        _ => panic!("{ty} has no bit {b}"),
    }
}

/// A format in numbers: bits of a weight, weights of a sub-block, bits of a scale and of a
/// minimum, what is taken off the stored level and scale, and where `d` and `dmin` are.
type Format = (
    QuantType,
    usize,
    usize,
    usize,
    usize,
    i32,
    i32,
    usize,
    Option<usize>,
);
const FORMATS: [Format; 6] = [
    (QuantType::Q2K, 2, 16, 4, 4, 0, 0, 80, Some(82)),
    (QuantType::Q3K, 3, 16, 6, 0, 4, 32, 108, None),
    (QuantType::Q4K, 4, 32, 6, 6, 0, 0, 0, Some(2)),
    (QuantType::Q5K, 5, 32, 6, 6, 0, 0, 0, Some(2)),
    (QuantType::Q6K, 6, 16, 8, 0, 32, 0, 208, None),
    (QuantType::IQ4XS, 4, 32, 6, 0, 0, 32, 0, None),
];

/// Packs random fields bit by bit at the addresses above; decode must find them again.
#[test]
fn every_bit_is_where_the_diagram_says() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |bits: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as i32 & ((1 << bits) - 1)
    };
    for (ty, bits, run, scale_bits, min_bits, level_zero, scale_zero, d_at, dmin_at) in FORMATS {
        let mut block = vec![0u8; ty.block_bytes()];
        let mut put = |(byte, bit): (usize, usize), value: i32, b: usize| {
            block[byte] |= ((value >> b & 1) as u8) << bit;
        };
        let levels: Vec<i32> = (0..256).map(|_| random(bits)).collect();
        let scales: Vec<i32> = (0..256 / run).map(|_| random(scale_bits)).collect();
        let mins: Vec<i32> = (0..256 / run).map(|_| random(min_bits)).collect();
        for (i, level) in levels.iter().enumerate() {
            (0..bits).for_each(|b| put(place(ty, i, b), *level, b));
        }
        for (j, (scale, min)) in scales.iter().zip(&mins).enumerate() {
            (0..scale_bits).for_each(|b| put(place_of_scale(ty, false, j, b), *scale, b));
            (0..min_bits).for_each(|b| put(place_of_scale(ty, true, j, b), *min, b));
        }
        block[d_at..d_at + 2].copy_from_slice(&0x3800u16.to_le_bytes()); // 0.5
        if let Some(at) = dmin_at {
            block[at..at + 2].copy_from_slice(&0x3400u16.to_le_bytes()); // 0.25
        }
        let mut out = [0.0; 256];
        decode(ty, &block, &mut out);
        for (i, got) in out.into_iter().enumerate() {
            let level = match ty {
                QuantType::IQ4XS => iq4_nl::GRID[levels[i] as usize] as i32,
                _ => levels[i] - level_zero,
            };
            let scale = match ty {
                QuantType::Q6K => scales[i / run] as u8 as i8 as i32,
                _ => scales[i / run] - scale_zero,
            };
            // Halves and quarters of small integers: exact.
            let want = 0.5 * (scale * level) as f32 - 0.25 * mins[i / run] as f32;
            assert_eq!(got, want, "{ty}, weight {i}");
        }
    }
}

/// Recipe: tests/golden/blocks/encode.py.
#[test]
fn encoding_loses_no_more_than_llama_cpp_does() {
    let rows = std::fs::read(format!("{GOLDEN}/rows.bin")).unwrap();
    let real = rows.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    let a = gaussian(0xD1B5_4A32_D192_ED03);
    let b = gaussian(0x8CB9_2BA7_2F3D_8DD7);
    let data: HashMap<_, Vec<f32>> = [
        ("gaussian", gaussian(0x9E37_79B9_7F4A_7C15)),
        ("heavy", a.iter().zip(b).map(|(a, b)| a * b).collect()),
        ("real", real.collect()),
    ]
    .into();
    for line in include_str!("../../../../tests/golden/blocks/encode.txt").lines() {
        let [name, set, theirs] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let theirs: f64 = theirs.parse().unwrap();
        let ty = QuantType::ALL
            .into_iter()
            .find(|t| t.name() == name)
            .unwrap();
        let weights = &data[set];
        let ours = mean_square_error(ty, weights);
        println!(
            "{name:7} {set:9} {ours:.4e}  {:.4} of llama.cpp's",
            ours / theirs
        );
        assert!(ours <= theirs * 1.0001, "{line}: ours {ours}");
    }
}

fn mean_square_error(ty: QuantType, weights: &[f32]) -> f64 {
    let mut bytes = vec![0; ty.row_bytes(weights.len()).unwrap()];
    let mut back = vec![0.0; weights.len()];
    encode(ty, weights, &mut bytes).unwrap();
    decode(ty, &bytes, &mut back);
    let square = |(a, b): (&f32, &f32)| (*a as f64 - *b as f64).powi(2);
    weights.iter().zip(&back).map(square).sum::<f64>() / weights.len() as f64
}

/// Sums of twelve uniform numbers, minus six; as encode.py makes them.
fn gaussian(mut state: u64) -> Vec<f32> {
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..8192)
        .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
        .collect()
}

/// Values no encoder may stumble over; each block of them must come back finite, and
/// constants near what they were (Q2_K has two bits and a minimum of at most zero).
#[test]
fn odd_weights_are_encoded_without_accident() {
    for ty in QuantType::ALL.into_iter().filter(|t| t.block_len() > 1) {
        let check = |weights: [f32; 256], tolerance: f32| {
            let mut bytes = vec![0xAA; ty.row_bytes(256).unwrap()];
            if encode(ty, &weights, &mut bytes).is_err() {
                assert_eq!(ty, QuantType::IQ4XS);
                return;
            }
            let mut back = [f32::NAN; 256];
            decode(ty, &bytes, &mut back);
            for (w, back) in weights.iter().zip(back) {
                assert!(back.is_finite(), "{ty}: {w} became {back}");
                let distance = (w - back).abs();
                assert!(
                    distance <= tolerance || w.is_nan(),
                    "{ty}: {w} became {back}"
                );
            }
        };
        check([0.0; 256], 0.0);
        check([-0.0; 256], 0.0);
        check([1.0; 256], 0.13);
        check([-1.0; 256], 0.13);
        check([1e-30; 256], 1e-6);
        check([3e38; 256], f32::MAX);
        check([f32::NAN; 256], 0.0);
        check([f32::NEG_INFINITY; 256], f32::INFINITY);
        let mut one = [0.0; 256];
        one[100] = 5.0;
        check(one, 0.05);
    }
}

/// What [`encode_near`] promises: a change never costs more than leaving it out, nor more than encoding
/// afresh, and no change is no change.
#[test]
fn a_changed_block_is_as_near_as_its_old_scales_or_new_ones_bring_it() {
    let (weights, change) = (gaussian(7), gaussian(8));
    for ty in QuantType::ALL {
        let length = ty.row_bytes(weights.len()).unwrap();
        let (mut near, mut out, mut fresh) = (vec![0; length], vec![0; length], vec![0; length]);
        if encode(ty, &weights, &mut near).is_err() {
            continue;
        }
        let mut old = vec![0.0; weights.len()];
        decode(ty, &near, &mut old);
        encode_near(ty, &old, &near, &mut out).unwrap();
        assert!(out == near, "{ty}");
        for size in [1e-5, 0.01, 0.1, 1.0] {
            let wanted = old.iter().zip(&change).map(|(w, c)| w + size * c);
            let wanted: Vec<f32> = wanted.collect();
            encode_near(ty, &wanted, &near, &mut out).unwrap();
            encode(ty, &wanted, &mut fresh).unwrap();
            let losses = |bytes: &[u8]| -> Vec<f64> {
                let mut stored = vec![0.0; wanted.len()];
                decode(ty, bytes, &mut stored);
                let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
                let errors: Vec<f64> = wanted.iter().zip(&stored).map(square).collect();
                let blocks = errors.chunks(ty.block_len());
                blocks.map(|block| block.iter().sum()).collect()
            };
            let (kept, new, found) = (losses(&near), losses(&fresh), losses(&out));
            for ((kept, new), found) in kept.iter().zip(new).zip(found) {
                let most = if ty.block_len() > 1 {
                    kept.min(new)
                } else {
                    new
                };
                assert!(found <= most, "{ty}, {size}: {found:e}, {most:e}");
            }
        }
    }
}
