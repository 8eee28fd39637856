//! Every table against the exact product of what the bytes and the rounded activations mean.

use super::*;
use crate::blocks;
use crate::tests::Random;

/// Rounded activations that own their arrays, and what they mean.
struct Owned {
    levels: Vec<[i8; GROUP]>,
    words: Vec<[i16; GROUP]>,
    units: Vec<f32>,
    sums: Vec<f32>,
    halves: Vec<[f32; 2]>,
    parts: Vec<Parts>,
    inputs: usize,
}

impl Owned {
    fn new(table: &Kernels, x: &[f32], inputs: usize) -> Self {
        let groups = x.len() / GROUP;
        let words = if table.rounds_to_words() { groups } else { 0 };
        let mut owned = Self {
            levels: vec![[0; GROUP]; groups],
            words: vec![[0; GROUP]; words],
            units: vec![0.0; groups],
            sums: vec![0.0; groups],
            halves: vec![[0.0; 2]; groups],
            parts: vec![Parts::default(); groups],
            inputs,
        };
        let out = RoundedMut {
            levels: &mut owned.levels,
            words: &mut owned.words,
            units: &mut owned.units,
            sums: &mut owned.sums,
            halves: &mut owned.halves,
            parts: &mut owned.parts,
        };
        table.round(out, x, inputs);
        owned
    }

    fn view(&self) -> Rounded<'_> {
        Rounded {
            levels: &self.levels,
            words: &self.words,
            units: &self.units,
            sums: &self.sums,
            halves: &self.halves,
            parts: &self.parts,
            inputs: self.inputs,
        }
    }

    /// `[T, inputs]` again, as the products see them.
    fn floats(&self) -> Vec<f64> {
        let tokens = self.view().tokens();
        let mut floats = Vec::new();
        for place in places(tokens, self.inputs) {
            let unit = self.units[place] as f64;
            floats.extend(self.levels[place].map(|level| unit * level as f64));
        }
        floats
    }
}

fn tables() -> impl Iterator<Item = &'static Kernels> {
    Kernels::available().filter(|table| table.rounds(QuantType::Q4_0))
}

fn types() -> impl Iterator<Item = QuantType> {
    QuantType::ALL
        .into_iter()
        .filter(|&ty| (1..=8).contains(&Form::of(ty).bits))
}

#[test]
fn rounding_is_within_half_a_unit_and_sums_are_of_what_was_rounded() {
    let mut random = Random(0x5DEE_CE66_D1CE_4E5B);
    for table in tables() {
        for (tokens, inputs) in [(1, 32), (3, 64), (4, 256), (9, 96), (17, 32)] {
            for size in [1e-20_f32, 1.0, 1e20] {
                let mut x: Vec<f32> = (0..tokens * inputs)
                    .map(|_| random.float() * size)
                    .collect();
                x[7] *= 1000.0; // outliers are usual
                x[9] = 0.0;
                let owned = Owned::new(table, &x, inputs);
                let floats = owned.floats();
                for (place, (x, got)) in
                    places(tokens, inputs).zip(x.chunks(GROUP).zip(floats.chunks(GROUP)))
                {
                    let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs())) as f64;
                    for (&x, &got) in x.iter().zip(got) {
                        assert!(
                            (x as f64 - got).abs() <= most / 254.0 * 1.0001,
                            "{} {x} {got}",
                            table.name
                        );
                    }
                    let halves = [&got[..16], &got[16..]].map(|half| half.iter().sum::<f64>());
                    let sums = [
                        owned.halves[place][0],
                        owned.halves[place][1],
                        owned.sums[place],
                    ];
                    for (sum, want) in
                        sums.into_iter()
                            .zip([halves[0], halves[1], halves[0] + halves[1]])
                    {
                        assert!(
                            (sum as f64 - want).abs() <= most * 1e-5,
                            "{} {sum} {want}",
                            table.name
                        );
                    }
                    let places = [
                        (0..16, 1),
                        (16..32, 1),
                        (0..32, 1),
                        (0..16, 32),
                        (16..32, 32),
                    ];
                    for (parts, (of, times)) in owned.parts[place].into_iter().zip(places) {
                        for (first, got) in [(0, parts[0]), (2, parts[1])] {
                            let two =
                                |four: &[i8]| i16::from(four[first]) + i16::from(four[first + 1]);
                            let want: i16 =
                                owned.levels[place][of.clone()].chunks(4).map(two).sum();
                            assert_eq!(got, times * want, "{}", table.name);
                        }
                    }
                    if let Some(words) = owned.words.get(place) {
                        assert_eq!(*words, owned.levels[place].map(i16::from), "{}", table.name);
                    }
                }
            }
        }
    }
}

/// Random blocks, tails of rows, tokens and depths, and a matrix that begins anywhere.
#[test]
fn products_are_those_of_the_rounded_activations() {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut strip = Strip::default();
    for ty in types() {
        for (tokens, rows, blocks) in [
            (1, 1, 1),
            (1, 5, 3),
            (1, 4, 20),
            // More than one token's activations are brought into order at a time.
            (1, 3, 130),
            (2, 3, 2),
            (3, 17, 5),
            (4, 64, 1),
            (5, 33, 3),
            (8, 70, 2),
            (11, 100, 7),
        ] {
            let inputs: usize = 256 * blocks;
            let inputs = if ty.block_len() == 32 {
                inputs + 32
            } else {
                inputs
            };
            let w = random.blocks(ty, rows * inputs / ty.block_len(), true);
            let shifted = [&[0][..], &w].concat();
            let mut decoded = vec![0.0; rows * inputs];
            blocks::decode(ty, &w, &mut decoded);
            let x: Vec<f32> = (0..tokens * inputs).map(|_| random.float()).collect();
            for table in tables() {
                let owned = Owned::new(table, &x, inputs);
                let floats = owned.floats();
                let weight = Stored {
                    quant_type: ty,
                    bytes: &shifted[1..],
                    inputs,
                };
                let mut thick = vec![7.0; tokens * (rows + 2)];
                let mut y = MatMut::strided(&mut thick, tokens, rows, rows + 2, 1);
                table.linear_rounded(y.reborrow(), &owned.view(), &weight, &mut strip);
                let mut thin = thick.clone();
                if tokens <= TILE {
                    table.thin_rounded(&mut thin, rows + 2, &owned.view(), &weight);
                }
                for (t, r) in (0..tokens).flat_map(|t| (0..rows).map(move |r| (t, r))) {
                    let (w, x) = (
                        &decoded[r * inputs..][..inputs],
                        &floats[t * inputs..][..inputs],
                    );
                    let terms = w.iter().zip(x).map(|(&w, &x)| w as f64 * x);
                    let want: f64 = terms.clone().sum();
                    // As in the test of thin products: a minimum can be 64 times a weight.
                    let allowed = 4e-6 * (terms.map(f64::abs).sum::<f64>() + 1.0);
                    for (way, got) in [("strips", &thick), ("thin", &thin)] {
                        let got = got[t * (rows + 2) + r] as f64;
                        assert!(
                            (got - want).abs() <= allowed,
                            "{} {way} {ty} {inputs} t{t}/{tokens} r{r}: {got} {want} {allowed}",
                            table.name
                        );
                    }
                }
                for t in 0..tokens {
                    assert_eq!(
                        thin[t * (rows + 2) + rows..][..2],
                        [7.0; 2],
                        "beyond the rows"
                    );
                }
            }
        }
    }
}

/// The largest levels and activations there are, all of one sign: no sum of them may overflow.
#[test]
fn the_largest_integers_are_added_exactly() {
    let mut strip = Strip::default();
    for ty in types() {
        let inputs = 512;
        for byte in [0x00, 0x7F, 0x80, 0xFF] {
            // Scales of 1 or as large as the integers allow, all other bytes alike.
            let mut w = vec![byte; 2 * ty.row_bytes(inputs).expect("whole blocks")];
            for block in w.chunks_exact_mut(ty.block_bytes()) {
                for &at in crate::tests::halves_of(ty) {
                    block[at..at + 2].copy_from_slice(&[0x00, 0x3C]);
                }
                // Its scales are bytes: zeros would hide the smallest levels.
                if ty == QuantType::Q6K && byte == 0 {
                    block[192..208].fill(1);
                }
            }
            let mut decoded = vec![0.0; 2 * inputs];
            blocks::decode(ty, &w, &mut decoded);
            for (sign, table) in [1.0, -1.0]
                .into_iter()
                .flat_map(|sign| tables().map(move |t| (sign, t)))
            {
                let owned = Owned::new(table, &vec![sign; 5 * inputs], inputs);
                let one = Owned::new(table, &vec![sign; inputs], inputs);
                let weight = Stored {
                    quant_type: ty,
                    bytes: &w,
                    inputs,
                };
                let (mut thick, mut thin) = ([0.0; 10], [0.0; 2]);
                table.linear_rounded(
                    MatMut::new(&mut thick, 5, 2),
                    &owned.view(),
                    &weight,
                    &mut strip,
                );
                table.thin_rounded(&mut thin, 2, &one.view(), &weight);
                for (r, w) in decoded.chunks(inputs).enumerate() {
                    let want: f64 = w.iter().map(|&w| sign as f64 * w as f64).sum();
                    let allowed = 1e-5
                        * (w.iter().map(|w| w.abs() as f64).sum::<f64>() + 64.0 * inputs as f64);
                    for got in [thick[r], thick[8 + r], thin[r]] {
                        assert!(
                            (got as f64 - want).abs() <= allowed,
                            "{} {ty} {byte:x}: {got} {want}",
                            table.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_are_seen() {
    let mut strip = Strip::default();
    for (ty, table) in types().flat_map(|ty| tables().map(move |table| (ty, table))) {
        let inputs = 512;
        let w = vec![0x22; ty.row_bytes(inputs).expect("whole blocks")];
        let weight = Stored {
            quant_type: ty,
            bytes: &w,
            inputs,
        };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 5 * inputs];
            x[inputs + 300] = bad;
            let owned = Owned::new(table, &x, inputs);
            let mut y = [0.0; 5];
            table.linear_rounded(
                MatMut::new(&mut y, 5, 1),
                &owned.view(),
                &weight,
                &mut strip,
            );
            assert_eq!(
                y.map(f32::is_finite),
                [true, false, true, true, true],
                "{} {ty}",
                table.name
            );
            let one = Owned::new(table, &x[inputs..2 * inputs], inputs);
            table.thin_rounded(&mut y, 1, &one.view(), &weight);
            assert!(!y[0].is_finite(), "{} {ty}", table.name);
        }
    }
}

/// What threads compute apart is what one computes: of any rows, and of any whole tiles of tokens.
#[test]
fn a_result_has_the_same_bits_whatever_is_computed_with_it() {
    let mut random = Random(0xD6E8_FEB8_6659_FD93);
    let mut strip = Strip::default();
    for ty in types() {
        let (tokens, rows, inputs) = (12, 40, 1280);
        let w = random.blocks(ty, rows * inputs / ty.block_len(), true);
        let x: Vec<f32> = (0..tokens * inputs).map(|_| random.float()).collect();
        for table in tables() {
            let row_bytes = w.len() / rows;
            let mut all = vec![0.0; tokens * rows];
            let owned = Owned::new(table, &x, inputs);
            let weight = |bytes| Stored {
                quant_type: ty,
                bytes,
                inputs,
            };
            let y = MatMut::new(&mut all, tokens, rows);
            table.linear_rounded(y, &owned.view(), &weight(&w), &mut strip);
            let part = Owned::new(table, &x[4 * inputs..8 * inputs], inputs);
            for row in [0, 7, 39] {
                let mut one = [0.0; 4];
                let bytes = &w[row * row_bytes..][..row_bytes];
                table.linear_rounded(
                    MatMut::new(&mut one, 4, 1),
                    &part.view(),
                    &weight(bytes),
                    &mut strip,
                );
                for (t, got) in one.into_iter().enumerate() {
                    let want = all[(4 + t) * rows + row];
                    assert_eq!(got.to_bits(), want.to_bits(), "{} {ty}", table.name);
                }
            }
        }
    }
}
