//! Every table that multiplies words against the product of what rounding makes of weights and activations.

use super::*;
use crate::blocks;
use crate::tests::Random;

const TYPES: [QuantType; 2] = [QuantType::F16, QuantType::BF16];

/// Activations in words that own their arrays.
struct Owned {
    words: Vec<[i16; GROUP]>,
    units: Vec<f32>,
    inputs: usize,
}

impl Owned {
    fn new(table: &Kernels, x: &[f32], inputs: usize) -> Self {
        let groups = x.len() / GROUP;
        let (mut words, mut units) = (vec![[0; GROUP]; groups], vec![0.0; groups]);
        table.round_finely(&mut words, &mut units, x, inputs);
        Self {
            words,
            units,
            inputs,
        }
    }

    fn view(&self) -> Rounded<'_> {
        Rounded {
            grain: Grain::Words,
            levels: &[],
            words: &self.words,
            units: &self.units,
            sums: &[],
            halves: &[],
            parts: &[],
            inputs: self.inputs,
        }
    }
}

fn tables() -> impl Iterator<Item = &'static Kernels> {
    Kernels::available().filter(|table| table.grain(QuantType::F16) == Some(Grain::Words))
}

/// What rounding makes of floats, each group of which counts in units of its own.
fn in_words(floats: &[f32]) -> Vec<f64> {
    let groups = floats.chunks(GROUP).map(|group| {
        let most = group.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let inverse = if most > 0.0 { LARGEST_WORD / most } else { 0.0 };
        let unit = f64::from(most) / f64::from(LARGEST_WORD);
        group
            .iter()
            .map(move |x| unit * f64::from((x * inverse).round_ties_even()))
    });
    groups.flatten().collect()
}

fn stored(ty: QuantType, bytes: &[u8], inputs: usize) -> Stored<'_> {
    Stored {
        quant_type: ty,
        bytes,
        inputs,
    }
}

/// Encoded floats, and what they are then.
fn encoded(ty: QuantType, floats: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = vec![0; ty.row_bytes(floats.len()).expect("any length")];
    blocks::encode(ty, floats, &mut bytes).expect("an encoder");
    let mut decoded = vec![0.0; floats.len()];
    blocks::decode(ty, &bytes, &mut decoded);
    (bytes, decoded)
}

/// Tails of rows, tokens and depths, groups of zeros and of very different sizes, a matrix that begins anywhere.
#[test]
fn products_are_those_of_what_was_rounded() {
    let mut random = Random(0x9E6C_63D0_876A_3F6B);
    let mut strip = Strip::default();
    for ty in TYPES {
        for (tokens, rows, inputs) in [
            (1, 1, 32),
            (2, 3, 96),
            (3, 17, 1056),
            (4, 64, 256),
            (5, 33, 2080),
            (11, 100, 512),
        ] {
            let size = |i: usize| [1.0, 0.0, 1e-6, 3e4][i / GROUP % 4];
            let mut floats = |count| {
                let floats = (0..count).map(|i| size(i) * random.float());
                floats.collect::<Vec<f32>>()
            };
            let x = floats(tokens * inputs);
            let (bytes, w) = encoded(ty, &floats(rows * inputs));
            let shifted = [&[0][..], &bytes].concat();
            let (x_words, w_words) = (in_words(&x), in_words(&w));
            for table in tables() {
                let owned = Owned::new(table, &x, inputs);
                let weight = stored(ty, &shifted[1..], inputs);
                let mut got = vec![7.0; tokens * (rows + 2)];
                let y = MatMut::strided(&mut got, tokens, rows, rows + 2, 1);
                table.linear_rounded(y, &owned.view(), &weight, &mut strip);
                for (t, got) in got.chunks(rows + 2).enumerate() {
                    for (r, &got) in got[..rows].iter().enumerate() {
                        let of = |all: &[f64], i| all[i * inputs..][..inputs].to_vec();
                        let (w, x) = (of(&w_words, r), of(&x_words, t));
                        let terms = w.iter().zip(x).map(|(w, x)| w * x);
                        let want: f64 = terms.clone().sum();
                        let allowed = 2e-6 * terms.map(f64::abs).sum::<f64>();
                        assert!(
                            (f64::from(got) - want).abs() <= allowed,
                            "{} {ty} {inputs} t{t}/{tokens} r{r}: {got} {want} {allowed}",
                            table.name
                        );
                    }
                    assert_eq!(got[rows..], [7.0; 2], "beyond the rows");
                }
            }
        }
    }
}

/// Rounding is as small as it is said to be: an eight-thousandth of the largest of 32.
#[test]
fn words_are_close_to_floats() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let mut strip = Strip::default();
    let inputs = 1024;
    let x: Vec<f32> = (0..4 * inputs).map(|_| random.float()).collect();
    let w: Vec<f32> = (0..8 * inputs).map(|_| random.float()).collect();
    let (bytes, w) = encoded(QuantType::F16, &w);
    for table in tables() {
        let owned = Owned::new(table, &x, inputs);
        let mut y = [0.0; 32];
        let weight = stored(QuantType::F16, &bytes, inputs);
        table.linear_rounded(
            MatMut::new(&mut y, 4, 8),
            &owned.view(),
            &weight,
            &mut strip,
        );
        let (mut off, mut all) = (0.0, 0.0);
        for (i, got) in y.into_iter().enumerate() {
            let (x, w) = (
                &x[i / 8 * inputs..][..inputs],
                &w[i % 8 * inputs..][..inputs],
            );
            let want: f64 = w
                .iter()
                .zip(x)
                .map(|(&w, &x)| f64::from(w) * f64::from(x))
                .sum();
            off += (f64::from(got) - want).powi(2);
            all += want * want;
        }
        assert!((off / all).sqrt() < 1e-4, "{}: {off} {all}", table.name);
    }
}

/// 32 products of the largest words of one sign, or of two.
#[test]
fn the_largest_words_are_added_exactly() {
    let mut strip = Strip::default();
    let inputs = 2048;
    for (ty, sign) in TYPES.into_iter().flat_map(|ty| [(ty, 1.0), (ty, -1.0)]) {
        let (bytes, _) = encoded(ty, &vec![2.0; inputs]);
        for table in tables() {
            let owned = Owned::new(table, &vec![sign; 5 * inputs], inputs);
            let mut y = [0.0; 5];
            let weight = stored(ty, &bytes, inputs);
            table.linear_rounded(
                MatMut::new(&mut y, 5, 1),
                &owned.view(),
                &weight,
                &mut strip,
            );
            for got in y {
                let want = sign * 2.0 * inputs as f32;
                assert!(
                    (got - want).abs() < 1e-6 * want.abs(),
                    "{} {got}",
                    table.name
                );
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_seen() {
    let mut strip = Strip::default();
    let inputs = 512;
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (ty, bad) in TYPES.into_iter().flat_map(|ty| bad.map(|bad| (ty, bad))) {
        for table in tables() {
            let mut x = vec![1.0; 5 * inputs];
            let mut w = vec![0.5; 3 * inputs];
            let product = |x: &[f32], w: &[f32], strip: &mut Strip| {
                let owned = Owned::new(table, x, inputs);
                let (bytes, _) = encoded(ty, w);
                let mut y = vec![0.0; 15];
                let weight = stored(ty, &bytes, inputs);
                let out = MatMut::new(&mut y, 5, 3);
                table.linear_rounded(out, &owned.view(), &weight, strip);
                y.into_iter().map(f32::is_finite).collect::<Vec<_>>()
            };
            w[inputs + 77] = bad;
            let finite = product(&x, &w, &mut strip);
            let want: Vec<bool> = (0..15).map(|i| i % 3 != 1).collect();
            assert_eq!(finite, want, "weights, {} {ty} {bad}", table.name);
            w[inputs + 77] = 0.5;
            x[2 * inputs + 300] = bad;
            let finite = product(&x, &w, &mut strip);
            let want: Vec<bool> = (0..15).map(|i| i / 3 != 2).collect();
            assert_eq!(finite, want, "activations, {} {ty} {bad}", table.name);
        }
    }
}

/// What threads compute apart is what one computes: of any rows, and of any whole tiles of tokens.
#[test]
fn words_give_the_same_bits_whatever_is_computed_with_them() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    let mut strip = Strip::default();
    let (tokens, rows, inputs) = (12, 40, 1280);
    let x: Vec<f32> = (0..tokens * inputs).map(|_| random.float()).collect();
    let w: Vec<f32> = (0..rows * inputs).map(|_| random.float()).collect();
    for (ty, table) in TYPES
        .into_iter()
        .flat_map(|ty| tables().map(move |t| (ty, t)))
    {
        let (bytes, _) = encoded(ty, &w);
        let owned = Owned::new(table, &x, inputs);
        let mut all = vec![0.0; tokens * rows];
        let y = MatMut::new(&mut all, tokens, rows);
        table.linear_rounded(y, &owned.view(), &stored(ty, &bytes, inputs), &mut strip);
        let part = Owned::new(table, &x[4 * inputs..8 * inputs], inputs);
        for row in [0, 7, 39] {
            let mut some = [0.0; 4];
            let weight = stored(ty, &bytes[2 * row * inputs..][..2 * inputs], inputs);
            table.linear_rounded(
                MatMut::new(&mut some, 4, 1),
                &part.view(),
                &weight,
                &mut strip,
            );
            for (t, got) in some.into_iter().enumerate() {
                let want = all[(4 + t) * rows + row];
                assert_eq!(got.to_bits(), want.to_bits(), "{} {ty}", table.name);
            }
        }
    }
}
