//! `tokenizer.model`: a SentencePiece model, a protocol buffer of pieces and rules.
//!
//! ```text
//! message   field 1 piece*, field 2 trainer, field 3 normalizer
//! piece     1 text, 2 score (f32), 3 type (1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte)
//! trainer   3 model type (1 unigram, 2 BPE), 24 whitespace as suffix, 40-43 ids of unk, bos, eos, pad
//! normalizer 2 character map, 3 dummy prefix, 4 extra whitespace removed, 5 whitespace escaped
//! ```
//! Source: `sentencepiece_model.proto` of the SentencePiece repository.

/// A parsed model.
#[derive(Debug, PartialEq)]
pub(super) struct SentencePiece {
    pub(super) pieces: Vec<Piece>,
    pub(super) bpe: bool,
    pub(super) suffix: bool,
    pub(super) unknown: i64,
    pub(super) bos: i64,
    pub(super) eos: i64,
    pub(super) pad: i64,
    /// Whether texts are normalised by a table.
    pub(super) character_map: bool,
    pub(super) dummy_prefix: bool,
    pub(super) removes_whitespace: bool,
    pub(super) escapes_whitespace: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// As GGUF numbers token types, which is SentencePiece's own numbering.
    pub(super) kind: i32,
}

/// Pieces of type normal.
pub(super) const NORMAL: i32 = 1;

/// One field's value.
enum Field<'b> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'b [u8]),
    Other,
}

impl SentencePiece {
    /// Parses a file.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            bpe: false,
            suffix: false,
            unknown: 0,
            bos: 1,
            eos: 2,
            pad: -1,
            character_map: false,
            dummy_prefix: true,
            removes_whitespace: true,
            escapes_whitespace: true,
        };
        fields(bytes, |number, field| match (number, field) {
            (1, Field::Bytes(bytes)) => {
                let piece = piece(bytes, model.pieces.len())?;
                model.pieces.push(piece);
                Ok(())
            }
            (2, Field::Bytes(bytes)) => fields(bytes, |number, field| {
                match (number, field) {
                    (3, Field::Varint(kind)) => model.bpe = kind == 2,
                    (24, Field::Varint(flag)) => model.suffix = flag != 0,
                    // Negative numbers come as 64 bits of two's complement.
                    (40, Field::Varint(id)) => model.unknown = id as i64,
                    (41, Field::Varint(id)) => model.bos = id as i64,
                    (42, Field::Varint(id)) => model.eos = id as i64,
                    (43, Field::Varint(id)) => model.pad = id as i64,
                    _ => {}
                }
                Ok(())
            }),
            (3, Field::Bytes(bytes)) => fields(bytes, |number, field| {
                match (number, field) {
                    (2, Field::Bytes(map)) => model.character_map = !map.is_empty(),
                    (3, Field::Varint(flag)) => model.dummy_prefix = flag != 0,
                    (4, Field::Varint(flag)) => model.removes_whitespace = flag != 0,
                    (5, Field::Varint(flag)) => model.escapes_whitespace = flag != 0,
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        })?;
        match model.pieces.is_empty() {
            true => Err("it holds no pieces; is it a SentencePiece model?".into()),
            false => Ok(model),
        }
    }
}

fn piece(bytes: &[u8], index: usize) -> Result<Piece, String> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: NORMAL,
    };
    fields(bytes, |number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                let text = std::str::from_utf8(text);
                piece.text = text
                    .map_err(|_| format!("piece {index} is not UTF-8"))?
                    .to_owned();
            }
            (2, Field::Fixed32(score)) => piece.score = f32::from_le_bytes(score),
            (3, Field::Varint(kind)) => {
                piece.kind = i32::try_from(kind)
                    .ok()
                    .filter(|kind| (1..=6).contains(kind))
                    .ok_or_else(|| format!("piece {index} is of unknown type {kind}"))?;
            }
            _ => {}
        }
        Ok(())
    })?;
    match piece.score.is_finite() {
        true => Ok(piece),
        false => Err(format!("piece {index} has the score {}", piece.score)),
    }
}

/// Calls `each` with number and value of each field of a message.
fn fields<'b>(
    mut bytes: &'b [u8],
    mut each: impl FnMut(u64, Field<'b>) -> Result<(), String>,
) -> Result<(), String> {
    fn take<'b>(bytes: &mut &'b [u8], len: u64) -> Result<&'b [u8], String> {
        let len = usize::try_from(len).ok().filter(|&len| len <= bytes.len());
        let Some(len) = len else {
            return Err(
                "it ends inside an entry; it is truncated or no SentencePiece model".into(),
            );
        };
        let (head, rest) = bytes.split_at(len);
        *bytes = rest;
        Ok(head)
    }
    fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = take(bytes, 1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number in it does not end; it is no SentencePiece model".into())
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => {
                take(&mut bytes, 8)?;
                Field::Other
            }
            2 => {
                let len = varint(&mut bytes)?;
                Field::Bytes(take(&mut bytes, len)?)
            }
            5 => {
                let four = take(&mut bytes, 4)?;
                Field::Fixed32(four.try_into().expect("four bytes were taken"))
            }
            wire => return Err(format!("it has an entry of unknown wire type {wire}")),
        };
        each(key >> 3, field)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pieces, BPE, no dummy prefix, no pad.
    fn model() -> Vec<u8> {
        let mut bytes = vec![
            10, 14, 10, 5, b'<', b'u', b'n', b'k', b'>', 21, 0, 0, 0, 0, 24, 2,
        ];
        bytes[1] = bytes.len() as u8 - 2;
        bytes.extend([10, 8, 10, 1, b'a', 21, 0, 0, 0, 0xc0]);
        bytes.extend([
            18, 13, 24, 2, 0xd8, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ]);
        bytes.extend([0xff, 1]);
        let trainer = bytes.len() - 14;
        bytes[trainer - 1] = 14;
        bytes.extend([26, 2, 24, 0]);
        bytes
    }

    #[test]
    fn pieces_rules_and_ids_are_read() {
        let model = SentencePiece::parse(&model()).unwrap();
        assert_eq!(model.pieces.len(), 2);
        assert_eq!(
            (model.pieces[0].text.as_str(), model.pieces[0].kind),
            ("<unk>", 2)
        );
        assert_eq!(
            (model.pieces[1].text.as_str(), model.pieces[1].score),
            ("a", -2.0)
        );
        assert_eq!(
            (model.bpe, model.pad, model.dummy_prefix),
            (true, -1, false)
        );
        assert!(model.removes_whitespace);
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_an_answer_not_a_panic() {
        let whole = model();
        for end in 0..whole.len() {
            let _ = SentencePiece::parse(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = SentencePiece::parse(&broken);
            }
        }
        assert!(SentencePiece::parse(b"").is_err());
        assert!(SentencePiece::parse(&[0xff; 40]).is_err());
    }
}
