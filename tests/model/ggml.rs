//! The block formats beside ggml itself: it decodes the same bytes to the same bits, and its own
//! encoders lose no less than ours. An optional feature, because building ggml needs libclang:
//!
//!     cargo test --release -p graft-tests --features ggml --test ggml
//!
//! ggml ends its process where it finds a fault, so it is in no library of graft.

#![allow(unsafe_code)]

mod seeded;

use std::sync::LazyLock;

use ggml_sys_bleedingedge as ggml;
use graft_kernels::{QuantType, blocks};

/// The types that ggml of April 2024 knows and that are more than numbers side by side.
const TYPES: [QuantType; 12] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q8_0,
    QuantType::Q2K,
    QuantType::Q3K,
    QuantType::Q4K,
    QuantType::Q5K,
    QuantType::Q6K,
    QuantType::IQ4NL,
    QuantType::IQ4XS,
];
/// Weights in a row: whole blocks of every type.
const ROW: usize = 4096;

/// ggml decodes half-precision scales with tables that its first context fills.
static TABLES: LazyLock<()> = LazyLock::new(|| {
    let parameters = ggml::ggml_init_params {
        mem_size: 1024,
        mem_buffer: std::ptr::null_mut(),
        no_alloc: true,
    };
    // SAFETY: the parameters are valid, and the context is freed once and not used.
    unsafe { ggml::ggml_free(ggml::ggml_init(parameters)) };
});

fn ggml_decode(ty: QuantType, bytes: &[u8]) -> Vec<f32> {
    LazyLock::force(&TABLES);
    assert_eq!(ty.row_bytes(ROW), Some(bytes.len()));
    let mut row = vec![0.0; ROW];
    // SAFETY: the number names a type of ggml's, whose block has the size that ours has (checked),
    // so it reads all of `bytes` and writes all of `row`.
    unsafe {
        let traits = ggml::ggml_internal_get_type_traits(ty.gguf_id());
        assert_eq!(traits.blck_size as usize, ty.block_len());
        assert_eq!(traits.type_size, ty.block_bytes());
        let decode = traits.to_float.expect("a block type has a decoder");
        decode(bytes.as_ptr().cast(), row.as_mut_ptr(), ROW as i64);
    }
    row
}

fn ggml_encode(ty: QuantType, row: &[f32]) -> Vec<u8> {
    LazyLock::force(&TABLES);
    let mut bytes = vec![0; ty.row_bytes(row.len()).unwrap()];
    // SAFETY: one row of `row.len()` weights, and as many bytes as ggml writes for it (the sizes of
    // blocks are the same, see above). No importance matrix: these types need none.
    let written = unsafe {
        ggml::ggml_quantize_chunk(
            ty.gguf_id(),
            row.as_ptr(),
            bytes.as_mut_ptr().cast(),
            0,
            1,
            row.len() as i64,
            std::ptr::null(),
        )
    };
    assert_eq!(written, bytes.len());
    bytes
}

#[test]
fn random_bytes_decode_to_the_same_bits() {
    for ty in TYPES {
        let mut words = seeded::words(&format!("bytes.{ty}"));
        for round in 0..200 {
            let words = words.by_ref().flat_map(u64::to_le_bytes);
            let bytes: Vec<u8> = words.take(ty.row_bytes(ROW).unwrap()).collect();
            let mut ours = vec![0.0; ROW];
            blocks::decode(ty, &bytes, &mut ours);
            for (i, (ours, theirs)) in ours.iter().zip(ggml_decode(ty, &bytes)).enumerate() {
                // Scales that are no numbers make weights that are none, with any bits.
                let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
                assert!(same, "{ty} round {round} weight {i}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn our_encoders_lose_no_more_than_ggml_does() {
    let sum = |a: &[f32], b: &[f32]| -> f64 {
        let each = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        each.sum()
    };
    // Twelve uniform numbers add up to nearly a Gaussian one.
    let uniform = seeded::values("weights", 12 * 16 * ROW, 1.0, 0.0);
    let gaussian: Vec<f32> = uniform.chunks(12).map(|run| run.iter().sum()).collect();
    for ty in TYPES.into_iter().filter(|ty| *ty != QuantType::IQ4XS) {
        let (mut ours, mut theirs) = (0.0, 0.0);
        for row in gaussian.chunks(ROW) {
            let mut bytes = vec![0; ty.row_bytes(ROW).unwrap()];
            blocks::encode(ty, row, &mut bytes).unwrap();
            ours += sum(row, &ggml_decode(ty, &bytes));
            theirs += sum(row, &ggml_decode(ty, &ggml_encode(ty, row)));
        }
        println!("{ty}: {:.4} of ggml's squared error", ours / theirs);
        assert!(ours <= theirs, "{ty}: {ours} {theirs}");
    }
}
