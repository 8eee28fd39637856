//! Every table against the portable reference: random bytes, all lengths, any alignment.

use super::*;

/// xorshift64: bit patterns no quantizer would produce.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Random bytes of `count` blocks. Where `tame`, the scales of K types are moderate,
    /// others' decoded values finite, so that sums can be compared.
    pub(crate) fn blocks(&mut self, ty: QuantType, count: usize, tame: bool) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count * ty.block_bytes())
            .map(|_| (self.next() >> 40) as u8)
            .collect();
        if tame {
            for block in bytes.chunks_exact_mut(ty.block_bytes()) {
                for at in halves_of(ty) {
                    // 2^-8 .. 2^-4 as F16 and 2^-64 .. 2 as F32 and BF16, any sign.
                    block[at + 1] = block[at + 1] & 0x8F | 0x20 | 0x08;
                }
            }
        }
        bytes
    }
}

/// Where a block of a type keeps its scales in halves; of the floats, their upper two bytes.
pub(crate) fn halves_of(ty: QuantType) -> &'static [usize] {
    match ty {
        QuantType::F32 => &[2],
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => &[0, 2],
        QuantType::Q2K => &[80, 82],
        QuantType::Q3K => &[108],
        QuantType::Q6K => &[208],
        _ => &[0],
    }
}

#[test]
fn every_table_decodes_the_same_bits() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for ty in QuantType::ALL {
        for blocks in (0..9).chain([31, 32, 33, 67]) {
            let count = blocks * ty.block_len();
            let bytes = random.blocks(ty, blocks, false);
            let mut want = vec![0.0; count];
            blocks::decode(ty, &bytes, &mut want);
            for table in Kernels::available() {
                for misalignment in 0..3 {
                    let mut shifted = vec![0; misalignment];
                    shifted.extend(&bytes);
                    let mut got = vec![f32::NAN; misalignment + count];
                    let got = &mut got[misalignment..];
                    table.decode(ty, &shifted[misalignment..], got);
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let same = got.to_bits() == want.to_bits();
                        let both_nan = got.is_nan() && want.is_nan();
                        assert!(same || both_nan, "{} {ty} {i}: {got} {want}", table.name);
                    }
                }
            }
        }
    }
    let ran: Vec<_> = Kernels::available().map(|t| t.name).collect();
    println!("instruction sets compared: {ran:?}");
}

#[test]
fn every_table_agrees_on_thin_products() {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    for ty in QuantType::ALL {
        for (tokens, rows) in (1..=8).flat_map(|t| [(t, 1), (t, 3)]) {
            for blocks in [1, 2, 5, 7, 8, 9, 43] {
                let inputs = blocks * ty.block_len();
                let w = random.blocks(ty, rows * blocks, true);
                let x: Vec<f32> = (0..tokens * inputs).map(|_| random.float()).collect();
                let mut decoded = vec![0.0; rows * inputs];
                blocks::decode(ty, &w, &mut decoded);
                for table in Kernels::available() {
                    let stride = rows + 2;
                    let mut y = vec![7.0; tokens * stride];
                    table.product_thin(&mut y, stride, &x, inputs, ty, &w);
                    for (t, r) in (0..tokens).flat_map(|t| (0..rows).map(move |r| (t, r))) {
                        let (w, x) = (&decoded[r * inputs..][..inputs], &x[t * inputs..][..inputs]);
                        let terms = w.iter().zip(x).map(|(&w, &x)| w as f64 * x as f64);
                        let want: f64 = terms.clone().sum();
                        // Rounding: a part in 2^24 for each of the few additions that a
                        // term passes through; factoring the minimum out can add terms as
                        // large as the span of its sub-block, at most 64 times a weight.
                        let scale: f64 = terms.map(f64::abs).sum::<f64>() + 1.0;
                        let allowed = 2e-6 * scale;
                        let got = y[t * stride + r] as f64;
                        assert!(
                            (got - want).abs() <= allowed,
                            "{} {ty} {inputs} t{t}/{tokens} r{r}: {got} {want} {allowed}",
                            table.name
                        );
                    }
                    for t in 0..tokens {
                        assert_eq!(y[t * stride + rows..][..2], [7.0; 2], "beyond the rows");
                    }
                }
            }
        }
    }
}

#[test]
fn activations_of_any_size_are_multiplied() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    for (ty, table) in QuantType::ALL
        .iter()
        .flat_map(|&ty| Kernels::available().map(move |t| (ty, t)))
    {
        let inputs = 1024;
        let w = random.blocks(ty, inputs / ty.block_len(), true);
        let mut decoded = vec![0.0; inputs];
        blocks::decode(ty, &w, &mut decoded);
        let product = |x: &[f32]| {
            let mut y = [7.0];
            table.product_thin(&mut y, 1, x, inputs, ty, &w);
            y[0]
        };
        assert_eq!(product(&vec![0.0; inputs]), 0.0, "{} {ty}", table.name);
        for size in [1e-20, 1e-6, 1.0, 1e10, 1e20] {
            let mut x: Vec<f32> = (0..inputs).map(|_| random.float() * size).collect();
            x[77] = 1000.0 * size; // outliers are usual
            let terms = decoded.iter().zip(&x).map(|(&w, &x)| w as f64 * x as f64);
            let want: f64 = terms.clone().sum();
            let allowed = 2e-6 * (terms.map(f64::abs).sum::<f64>() + size as f64);
            let got = product(&x) as f64;
            assert!(
                (got - want).abs() <= allowed,
                "{} {ty} {size}: {got} {want}",
                table.name
            );
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; inputs];
            x[500] = bad;
            assert!(!product(&x).is_finite(), "{} {ty} {bad}", table.name);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_rows_are_computed_with_it() {
    let mut random = Random(0x8CB9_2BA7_2F3D_8DD7);
    for ty in QuantType::ALL {
        let inputs = 512;
        let row_bytes = ty.row_bytes(inputs).unwrap();
        let w = random.blocks(ty, 5 * inputs / ty.block_len(), true);
        let x: Vec<f32> = (0..inputs).map(|_| random.float()).collect();
        for table in Kernels::available() {
            let (mut all, mut one) = ([0.0; 5], [0.0]);
            table.product_thin(&mut all, 5, &x, inputs, ty, &w);
            for r in 0..5 {
                let row = &w[r * row_bytes..][..row_bytes];
                table.product_thin(&mut one, 1, &x, inputs, ty, row);
                assert_eq!(all[r].to_bits(), one[0].to_bits(), "{} {ty}", table.name);
            }
        }
    }
}

#[test]
fn a_table_is_found_by_its_name() {
    for table in Kernels::available() {
        assert_eq!(Kernels::named(table.name).unwrap().name, table.name);
    }
    assert!(Kernels::named("abacus").is_none());
    let has_neon = cfg!(all(target_arch = "aarch64", target_endian = "little"));
    assert_eq!(Kernels::named("neon").is_some(), has_neon);
}
