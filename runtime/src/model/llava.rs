//! Where image tokens enter the sequence.
//!
//! A prompt marks each image with one id of -200. The model sees that image's projected features
//! there, one row per patch; their positions carry no label. Source: LLaVA's
//! `prepare_inputs_labels_for_multimodal`.

use crate::tokenizer::{IGNORED, IMAGE};

/// A run of positions of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Span {
    /// Token ids.
    Tokens(Vec<u32>),
    /// The first `rows` features of the sequence's image number `image`.
    Image {
        /// Counts the images of the sequence.
        image: usize,
        /// Patches, fewer than the image has only where the sequence was cut.
        rows: usize,
    },
}

impl Span {
    /// Positions it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::Tokens(ids) => ids.len(),
            Self::Image { rows, .. } => *rows,
        }
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A prompt with its images expanded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// The positions, in order.
    pub spans: Vec<Span>,
    /// One label per position.
    pub labels: Vec<i32>,
}

impl Sequence {
    /// Number of positions, T.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of ids and labels.
    pub fn bytes(&self) -> usize {
        let ids = self.spans.iter().map(|span| match span {
            Span::Tokens(ids) => ids.len() * size_of::<u32>(),
            Span::Image { .. } => 0,
        });
        ids.sum::<usize>() + self.labels.len() * size_of::<i32>()
    }

    /// Whether any position is an image's.
    pub fn shows_image(&self) -> bool {
        let image = |span: &Span| matches!(span, Span::Image { .. });
        self.spans.iter().any(image)
    }

    /// Positions whose next position is learned, and the label there.
    pub fn targets(&self) -> impl Iterator<Item = (usize, i32)> {
        let next = self.labels.iter().enumerate().skip(1);
        next.filter(|&(_, &label)| label != IGNORED)
            .map(|(i, &label)| (i - 1, label))
    }
}

/// Expands the images of a prompt to `patches` positions each and cuts the result to `max_tokens`.
///
/// # Panics
/// If `ids` and `labels` differ in length.
pub fn splice(ids: &[i32], labels: &[i32], patches: usize, max_tokens: usize) -> Sequence {
    assert_eq!(ids.len(), labels.len(), "one label per id");
    let mut sequence = Sequence::default();
    let mut image = 0;
    for (&id, &label) in ids.iter().zip(labels) {
        let room = max_tokens - sequence.len();
        if room == 0 {
            break;
        }
        if id == IMAGE {
            let rows = patches.min(room);
            sequence.spans.push(Span::Image { image, rows });
            sequence.labels.extend(std::iter::repeat_n(IGNORED, rows));
            image += 1;
        } else {
            // Other negative ids do not occur; a token id fits.
            let id = id.unsigned_abs();
            match sequence.spans.last_mut() {
                Some(Span::Tokens(tokens)) => tokens.push(id),
                _ => sequence.spans.push(Span::Tokens(vec![id])),
            }
            sequence.labels.push(label);
        }
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_take_their_patches_and_no_label() {
        let sequence = splice(&[1, IMAGE, 7, 8], &[IGNORED, IGNORED, 7, 8], 3, 100);
        let image = Span::Image { image: 0, rows: 3 };
        assert_eq!(
            sequence.spans,
            [Span::Tokens(vec![1]), image, Span::Tokens(vec![7, 8])]
        );
        assert_eq!(sequence.labels, [IGNORED, IGNORED, IGNORED, IGNORED, 7, 8]);
        assert_eq!(sequence.targets().collect::<Vec<_>>(), [(3, 7), (4, 8)]);
    }

    #[test]
    fn the_cut_comes_after_the_expansion() {
        let sequence = splice(&[1, IMAGE, 7], &[IGNORED; 3], 3, 3);
        assert_eq!((sequence.len(), sequence.spans.len()), (3, 2));
        assert_eq!(sequence.spans[1], Span::Image { image: 0, rows: 2 });
        assert!(splice(&[1, 2], &[1, 2], 3, 0).is_empty());
    }
}
