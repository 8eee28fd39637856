//! Every table that multiplies words against the product of what rounding makes of weights and activations.

use super::*;
use crate::blocks;
use crate::tests::Random;

fn tables() -> impl Iterator<Item = &'static Kernels> {
    Kernels::available().filter(|table| table.multiplies_words(QuantType::Q4_0))
}

/// What rounding makes of `count` floats that are `stride` apart.
fn in_words(floats: &[f32], count: usize, stride: usize) -> Vec<f64> {
    let floats: Vec<f32> = floats.iter().step_by(stride).take(count).copied().collect();
    let groups = floats.chunks(GROUP).map(|group| {
        let most = group.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let inverse = if most > 0.0 { LARGEST / most } else { 0.0 };
        let unit = f64::from(most) / f64::from(LARGEST);
        group
            .iter()
            .map(move |x| unit * f64::from((x * inverse).round_ties_even()))
    });
    groups.flatten().collect()
}

/// A matrix of a block type, whose bytes begin anywhere, and what they mean.
struct Matrix {
    quant_type: QuantType,
    bytes: Vec<u8>,
    floats: Vec<f32>,
    inputs: usize,
}

impl Matrix {
    fn new(quant_type: QuantType, floats: &[f32], inputs: usize) -> Self {
        let len = quant_type.row_bytes(floats.len()).expect("whole blocks");
        let mut bytes = vec![0; 1 + len];
        blocks::encode(quant_type, floats, &mut bytes[1..]).expect("an encoder");
        let mut decoded = vec![0.0; floats.len()];
        blocks::decode(quant_type, &bytes[1..], &mut decoded);
        Self {
            quant_type,
            bytes,
            floats: decoded,
            inputs,
        }
    }

    fn random(
        quant_type: QuantType,
        (outputs, inputs): (usize, usize),
        random: &mut Random,
    ) -> Self {
        Self::new(quant_type, &floats(random, outputs * inputs), inputs)
    }

    fn outputs(&self) -> usize {
        self.floats.len() / self.inputs
    }

    /// Some rows.
    fn stored(&self, rows: Range<usize>) -> Stored<'_> {
        let row = self
            .quant_type
            .row_bytes(self.inputs)
            .expect("whole blocks");
        Stored {
            quant_type: self.quant_type,
            bytes: &self.bytes[1 + rows.start * row..1 + rows.end * row],
            inputs: self.inputs,
        }
    }

    fn forward(&self, table: &Kernels, x: &[f32], room: &mut WordRoom) -> Vec<f32> {
        let (tokens, outputs) = (x.len() / self.inputs, self.outputs());
        let mut y = vec![f32::NAN; tokens * outputs];
        let view = MatMut::new(&mut y, tokens, outputs);
        let x = Mat::new(x, tokens, self.inputs);
        table.linear_forward_words(view, x, &self.stored(0..outputs), room);
        y
    }

    fn backward(&self, table: &Kernels, dy: &[f32], room: &mut WordRoom) -> Vec<f32> {
        let (tokens, outputs) = (dy.len() / self.outputs(), self.outputs());
        let mut dx = vec![f32::NAN; tokens * self.inputs];
        let (dy, weight) = (Mat::new(dy, tokens, outputs), self.stored(0..outputs));
        for first in (0..self.inputs).step_by(MOST_COLS) {
            let cols = MOST_COLS.min(self.inputs - first);
            let mut dx = MatMut::new(&mut dx, tokens, self.inputs);
            let part = dx.col_range(first, cols);
            table.linear_backward_words(part, false, dy, &weight, first, room);
        }
        dx
    }
}

/// Groups of zeros and of very different sizes.
fn uneven(random: &mut Random, count: usize) -> Vec<f32> {
    let size = |i: usize| [1.0, 0.0, 1e-6, 3e4][i / GROUP % 4];
    (0..count).map(|i| size(i) * random.float()).collect()
}

fn floats(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.float()).collect()
}

fn assert_sum(got: f32, a: &[f64], b: &[f64], what: &dyn Fn() -> String) {
    let terms = a.iter().zip(b).map(|(a, b)| a * b);
    let want: f64 = terms.clone().sum();
    let allowed = 2e-6 * terms.map(f64::abs).sum::<f64>();
    let off = (f64::from(got) - want).abs();
    assert!(off <= allowed, "{}: {got} {want} {allowed}", what());
}

/// Tails of columns, tokens and depths, forward and back, of every type that can be written.
#[test]
fn products_are_those_of_what_was_rounded() {
    let mut random = Random(0x51F2_97AC_0B3D_66E1);
    let mut room = WordRoom::default();
    let types = QuantType::ALL.into_iter().filter(|&ty| {
        let mut bytes = vec![0; ty.row_bytes(256).expect("whole blocks")];
        blocks::encode(ty, &[0.5; 256], &mut bytes).is_ok()
    });
    let types: Vec<_> = types.collect();
    for table in tables() {
        let types = types.iter().filter(|&&ty| table.multiplies_words(ty));
        for (&ty, (tokens, outputs, blocks)) in types.flat_map(|ty| {
            let sizes = [
                (1, 1, 1),
                (7, 37, 3),
                (13, 100, 5),
                (50, 17, 2),
                (6, 256, 1),
            ];
            sizes.map(|size| (ty, size))
        }) {
            let inputs = blocks * if ty.has_blocks() { ty.block_len() } else { 45 };
            let w = Matrix::new(ty, &uneven(&mut random, outputs * inputs), inputs);
            let x = uneven(&mut random, tokens * inputs);
            for (i, got) in w.forward(table, &x, &mut room).into_iter().enumerate() {
                let (t, r) = (i / outputs, i % outputs);
                let x = in_words(&x[t * inputs..], inputs, 1);
                let w = in_words(&w.floats[r * inputs..], inputs, 1);
                assert_sum(got, &w, &x, &|| format!("{} {ty} y {t} {r}", table.name));
            }
            let dy = uneven(&mut random, tokens * outputs);
            for (i, got) in w.backward(table, &dy, &mut room).into_iter().enumerate() {
                let (t, c) = (i / inputs, i % inputs);
                let dy = in_words(&dy[t * outputs..], outputs, 1);
                let w = in_words(&w.floats[c..], outputs, inputs);
                assert_sum(got, &w, &dy, &|| format!("{} {ty} dx {t} {c}", table.name));
            }
        }
    }
}

/// More depth than a panel has, more tokens than a block, results that are added, and those of a wider matrix.
#[test]
fn pieces_are_put_together() {
    let mut random = Random(0x2C1B_3C6D_5A79_11F3);
    let mut room = WordRoom::default();
    let (tokens, outputs, inputs) = (101, DEPTH + 45, 2 * DEPTH + 96);
    let w = Matrix::random(QuantType::Q8_0, (outputs, inputs), &mut random);
    let x = floats(&mut random, tokens * inputs);
    let dy = floats(&mut random, tokens * outputs);
    for table in tables() {
        let (cols, first) = (40, 600);
        let mut y = vec![1.0; tokens * (cols + 2)];
        let view = MatMut::strided(&mut y, tokens, cols, cols + 2, 1);
        let weight = w.stored(first..first + cols);
        let all = Mat::new(&x, tokens, inputs);
        table.linear_forward_words(view, all, &weight, &mut room);
        for (t, y) in y.chunks(cols + 2).enumerate() {
            let x = in_words(&x[t * inputs..], inputs, 1);
            for (c, &got) in y[..cols].iter().enumerate() {
                let w = in_words(&w.floats[(first + c) * inputs..], inputs, 1);
                assert_sum(got, &w, &x, &|| format!("{} y {t} {c}", table.name));
            }
            assert_eq!(y[cols..], [1.0; 2], "beyond the columns");
        }
        let (cols, first) = (64, 1024);
        let mut dx = vec![1.0; tokens * cols];
        for _ in 0..2 {
            let view = MatMut::new(&mut dx, tokens, cols);
            let dy = Mat::new(&dy, tokens, outputs);
            let weight = w.stored(0..outputs);
            table.linear_backward_words(view, true, dy, &weight, first, &mut room);
        }
        for (i, got) in dx.into_iter().enumerate() {
            let (t, c) = (i / cols, first + i % cols);
            let dy = in_words(&dy[t * outputs..], outputs, 1);
            let w = in_words(&w.floats[c..], outputs, inputs);
            let half = (got - 1.0) / 2.0;
            assert_sum(half, &w, &dy, &|| format!("{} dx {t} {c}", table.name));
        }
    }
}

/// Rounding is as small as it is said to be.
#[test]
fn words_are_close_to_floats() {
    let mut random = Random(0x8F6E_41B7_2D90_C5A3);
    let mut room = WordRoom::default();
    let (tokens, outputs, inputs) = (12, 96, 1024);
    let w = Matrix::random(QuantType::Q4K, (outputs, inputs), &mut random);
    let x = floats(&mut random, tokens * inputs);
    let dy = floats(&mut random, tokens * outputs);
    let exact = |a: &[f32], b: &[f32], stride: usize| -> f64 {
        let terms = a.iter().zip(b.iter().step_by(stride));
        terms.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    for table in tables() {
        let y = w.forward(table, &x, &mut room);
        let want = (0..tokens * outputs).map(|i| {
            let x = &x[i / outputs * inputs..][..inputs];
            exact(x, &w.floats[i % outputs * inputs..], 1)
        });
        let error = relative(&y, want);
        assert!(error < 1e-4, "{}: y {error}", table.name);
        let dx = w.backward(table, &dy, &mut room);
        let want = (0..tokens * inputs).map(|i| {
            let dy = &dy[i / inputs * outputs..][..outputs];
            exact(dy, &w.floats[i % inputs..], inputs)
        });
        let error = relative(&dx, want);
        assert!(error < 1e-4, "{}: dx {error}", table.name);
    }
}

/// The size of what is off, of all.
fn relative(got: &[f32], want: impl Iterator<Item = f64>) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (&got, want) in got.iter().zip(want) {
        off += (f64::from(got) - want).powi(2);
        all += want * want;
    }
    (off / all).sqrt()
}

/// 32 products of the largest words, of one sign and of two, and numbers that are too small to count.
#[test]
fn the_largest_words_are_added_exactly() {
    let mut room = WordRoom::default();
    let inputs = 2048;
    let w = Matrix::new(QuantType::Q8_0, &vec![2.0; inputs], inputs);
    for (table, sign) in tables().flat_map(|table| [(table, 1.0), (table, -1.0)]) {
        for got in w.forward(table, &vec![sign; 5 * inputs], &mut room) {
            let want = sign * w.floats.iter().sum::<f32>();
            assert!(
                (got - want).abs() < 1e-6 * want.abs(),
                "{} {got}",
                table.name
            );
        }
        assert_eq!(
            w.forward(table, &vec![sign * 1e-38; inputs], &mut room),
            [0.0]
        );
    }
}

#[test]
fn what_is_not_finite_is_seen() {
    let mut room = WordRoom::default();
    let (tokens, outputs, inputs) = (7, 70, 512);
    let finite = |y: Vec<f32>| y.into_iter().map(f32::is_finite).collect::<Vec<_>>();
    let mut w = Matrix::new(QuantType::Q8_0, &vec![0.5; outputs * inputs], inputs);
    for (table, bad) in tables().flat_map(|table| {
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        bad.map(|bad| (table, bad))
    }) {
        let mut x = vec![1.0; tokens * inputs];
        x[2 * inputs + 300] = bad;
        let got = finite(w.forward(table, &x, &mut room));
        let want: Vec<bool> = (0..tokens * outputs).map(|i| i / outputs != 2).collect();
        assert_eq!(got, want, "activations, {} {bad}", table.name);
        let mut dy = vec![1.0; tokens * outputs];
        dy[3 * outputs + 69] = bad;
        let got = finite(w.backward(table, &dy, &mut room));
        let want: Vec<bool> = (0..tokens * inputs).map(|i| i / inputs != 3).collect();
        assert_eq!(got, want, "gradients, {} {bad}", table.name);
    }
    // The scale of the second block of the second row.
    let block = QuantType::Q8_0.row_bytes(32).expect("a block");
    let at = 1 + block * (inputs / 32 + 1);
    w.bytes[at..at + 2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    for table in tables() {
        let got = finite(w.forward(table, &vec![1.0; tokens * inputs], &mut room));
        let want: Vec<bool> = (0..tokens * outputs).map(|i| i % outputs != 1).collect();
        assert_eq!(got, want, "weights, {}", table.name);
        let got = finite(w.backward(table, &vec![1.0; tokens * outputs], &mut room));
        let seen = |i: usize| (32..64).contains(&(i % inputs));
        let want: Vec<bool> = (0..tokens * inputs).map(|i| !seen(i)).collect();
        assert_eq!(got, want, "weights back, {}", table.name);
    }
}

/// What threads compute apart is what one computes: of any columns, and of any tokens.
#[test]
fn words_give_the_same_bits_whatever_is_computed_with_them() {
    let mut random = Random(0x3A9D_70E2_94B6_1C55);
    let mut room = WordRoom::default();
    let (tokens, outputs, inputs) = (103, 80, 1280);
    let w = Matrix::random(QuantType::Q4K, (outputs, inputs), &mut random);
    let x = floats(&mut random, tokens * inputs);
    let dy = floats(&mut random, tokens * outputs);
    for table in tables() {
        let y = w.forward(table, &x, &mut room);
        let dx = w.backward(table, &dy, &mut room);
        for (from, count) in [(0, 1), (5, 40), (96, 7)] {
            let part = w.forward(table, &x[from * inputs..][..count * inputs], &mut room);
            assert_eq!(
                part,
                y[from * outputs..][..count * outputs],
                "{}",
                table.name
            );
            let part = w.backward(table, &dy[from * outputs..][..count * outputs], &mut room);
            assert_eq!(
                part,
                dx[from * inputs..][..count * inputs],
                "{}",
                table.name
            );
        }
        let mut some = vec![0.0; tokens * 3];
        let view = MatMut::new(&mut some, tokens, 3);
        let x = Mat::new(&x, tokens, inputs);
        table.linear_forward_words(view, x, &w.stored(41..44), &mut room);
        for (some, y) in some.chunks(3).zip(y.chunks(outputs)) {
            assert_eq!(some, &y[41..44], "{}", table.name);
        }
    }
}

/// Sums of integers are exact, and every table adds those of groups in the same order.
#[test]
fn every_table_gives_the_same_bits() {
    let mut random = Random(0x6D15_02BE_F3C8_4A97);
    let mut room = WordRoom::default();
    let (tokens, outputs, inputs) = (29, 75, DEPTH + 256);
    let w = Matrix::random(QuantType::Q6K, (outputs, inputs), &mut random);
    let x = uneven(&mut random, tokens * inputs);
    let dy = uneven(&mut random, tokens * outputs);
    let mut all = tables().map(|table| {
        let y = w.forward(table, &x, &mut room);
        (y, w.backward(table, &dy, &mut room), table.name)
    });
    let first = all.next();
    for (y, dx, name) in all {
        let (y_first, dx_first, _) = first.as_ref().expect("one before it");
        assert!(y == *y_first && dx == *dx_first, "{name}");
    }
}
