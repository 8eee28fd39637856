//! The two orders of a query or key matrix's rows.
//!
//! Both rotate pairs of a head's `D` rows. Hugging Face pairs row `i` with row `D/2 + i`; GGUF puts
//! the two of a pair next to each other: its row `2i + j` is Hugging Face's row `j·D/2 + i`.

use crate::model::{LlamaShape, Site, SiteKind};

/// Heads of a matrix whose rows are reordered.
fn heads(shape: &LlamaShape, site: Site) -> Option<usize> {
    match site.in_layer()?.1 {
        SiteKind::Q => Some(shape.heads),
        SiteKind::K => Some(shape.kv_heads),
        _ => None,
    }
}

/// Where GGUF's row `row` is in Hugging Face's order, in heads of `width` rows.
fn source(row: usize, width: usize) -> usize {
    let (head, place) = (row / width, row % width);
    head * width + place % 2 * (width / 2) + place / 2
}

/// `[outputs, R]` from Hugging Face's order to GGUF's.
pub(in crate::adapter) fn to_gguf(
    b: Vec<f32>,
    rank: usize,
    shape: &LlamaShape,
    site: Site,
) -> Vec<f32> {
    reorder(b, rank, shape, site, |out, b, row, from| {
        out[row * rank..][..rank].copy_from_slice(&b[from * rank..][..rank]);
    })
}

/// `[outputs, R]` from GGUF's order to Hugging Face's.
pub(in crate::adapter) fn to_hf(
    b: Vec<f32>,
    rank: usize,
    shape: &LlamaShape,
    site: Site,
) -> Vec<f32> {
    reorder(b, rank, shape, site, |out, b, row, to| {
        out[to * rank..][..rank].copy_from_slice(&b[row * rank..][..rank]);
    })
}

fn reorder(
    b: Vec<f32>,
    rank: usize,
    shape: &LlamaShape,
    site: Site,
    place: impl Fn(&mut [f32], &[f32], usize, usize),
) -> Vec<f32> {
    let Some(heads) = heads(shape, site) else {
        return b;
    };
    let rows = b.len() / rank;
    let width = rows / heads;
    let mut out = vec![0.0; b.len()];
    (0..rows).for_each(|row| place(&mut out, &b, row, source(row, width)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_together_and_go_apart_again() {
        let shape = LlamaShape::tiny();
        let rows = shape.query_width();
        let at = |linear| Site::Layer { layer: 1, linear };
        let b: Vec<f32> = (0..rows).map(|i| i as f32).collect();
        let gguf = to_gguf(b.clone(), 1, &shape, at(SiteKind::Q));
        assert_eq!(gguf[..8], [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        assert_eq!(gguf[8..10], [8.0, 12.0]);
        assert_eq!(to_hf(gguf, 1, &shape, at(SiteKind::Q)), b);
        assert_eq!(to_gguf(b.clone(), 1, &shape, at(SiteKind::V)), b);
    }
}
