//! The end of a value, found without reading the value.

use crate::json::Dialect;
use crate::marks::{BLOCK, Block};

/// Finds the end of a value by its brackets and quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Its last byte is its own: a bracket or a quote.
    closes: bool,
    depth: u32,
    quote: Option<u8>,
    escaped: bool,
    dialect: Dialect,
}

/// What a byte is to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One of its bytes, not the last.
    Inside,
    /// Its last byte.
    Last,
    /// The first byte behind it.
    Behind,
}

impl Scan {
    /// A value that begins with `first`.
    pub fn new(first: u8, dialect: Dialect) -> Self {
        Self {
            closes: matches!(first, b'{' | b'[' | b'(' | b'"')
                || (first == b'\'' && dialect == Dialect::Python),
            depth: 0,
            quote: None,
            escaped: false,
            dialect,
        }
    }

    /// Whether the value is whole if nothing follows.
    pub fn may_end(&self) -> bool {
        self.depth == 0 && self.quote.is_none()
    }

    /// Takes the next bytes of the value: the number of those inside it, and what follows them, which is
    /// taken as well.
    pub fn run(&mut self, bytes: &[u8]) -> (usize, Option<Step>) {
        let mut at = 0;
        loop {
            if let Some(block) = bytes[at..].first_chunk()
                && self.takes(block)
            {
                at += BLOCK;
                continue;
            }
            // Where a block is not taken, the end may be near.
            let few = bytes[at..].iter().take(BLOCK);
            for &byte in few {
                match self.step(byte) {
                    Step::Inside => at += 1,
                    end => return (at, Some(end)),
                }
            }
            if at == bytes.len() {
                return (at, None);
            }
        }
    }

    /// Takes a whole block, unless the value may end there or a closer look is needed.
    fn takes(&mut self, bytes: &[u8; BLOCK]) -> bool {
        if self.dialect != Dialect::Json || self.depth == 0 {
            return false;
        }
        let block = Block::of(bytes);
        let (escaped, last_escapes) = self.escaped_by(block.backslashes);
        let inside = inside(block.quotes & !escaped, self.quote.is_some());
        // Outside of texts a backslash escapes nothing.
        if block.backslashes & !inside != 0 {
            return false;
        }
        let (opens, closes) = (block.opens & !inside, block.closes & !inside);
        let mut depth = self.depth + opens.count_ones();
        if closes.count_ones() >= self.depth {
            // The brackets in their order: whether the last of the open ones is closed.
            let mut level = self.depth;
            let mut brackets = opens | closes;
            while brackets != 0 {
                let bracket = brackets & brackets.wrapping_neg();
                brackets ^= bracket;
                level = match opens & bracket {
                    0 => level - 1,
                    _ => level + 1,
                };
                if level == 0 {
                    return false;
                }
            }
        }
        depth -= closes.count_ones();
        self.depth = depth;
        self.quote = (inside >> (BLOCK - 1) != 0).then_some(b'"');
        self.escaped = last_escapes;
        true
    }

    /// The bytes that backslashes escape, and whether the last escapes the first of the next block.
    fn escaped_by(&self, mut backslashes: u64) -> (u64, bool) {
        let mut escaped = u64::from(self.escaped);
        backslashes &= !escaped;
        while backslashes != 0 {
            let backslash = backslashes & backslashes.wrapping_neg();
            if backslash >> (BLOCK - 1) != 0 {
                return (escaped, true);
            }
            let next = backslash << 1;
            escaped |= next;
            backslashes &= !(backslash | next);
        }
        (escaped, false)
    }

    /// Takes the next byte of the value.
    fn step(&mut self, byte: u8) -> Step {
        match (self.quote, byte) {
            (Some(_), _) if self.escaped => self.escaped = false,
            (Some(_), b'\\') => self.escaped = true,
            (Some(open), _) if byte == open => self.quote = None,
            (Some(_), _) => {}
            (None, b'"') => self.quote = Some(byte),
            (None, b'\'') if self.dialect == Dialect::Python => self.quote = Some(byte),
            (None, b'{' | b'[' | b'(') => self.depth += 1,
            (None, b'}' | b']' | b')') if self.depth > 0 => self.depth -= 1,
            (None, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') if self.depth == 0 => {
                return Step::Behind;
            }
            (None, _) => {}
        }
        match self.closes && self.may_end() {
            true => Step::Last,
            false => Step::Inside,
        }
    }
}

/// The bytes from an opening quote on up to its closing one, which is not one of them.
fn inside(quotes: u64, open: bool) -> u64 {
    let mut parity = quotes;
    for shift in [1, 2, 4, 8, 16, 32] {
        parity ^= parity << shift;
    }
    match open {
        true => !parity,
        false => parity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte after the other.
    fn slowly(scan: &mut Scan, bytes: &[u8]) -> (usize, Option<Step>) {
        for (at, &byte) in bytes.iter().enumerate() {
            match scan.step(byte) {
                Step::Inside => {}
                end => return (at, Some(end)),
            }
        }
        (bytes.len(), None)
    }

    #[test]
    fn blocks_end_where_single_bytes_do() {
        let mut seed = 7u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) as usize % n
        };
        for alphabet in [
            &b"{[\"\\]}, x"[..],
            b"xxxxxxxxxxxxxxxxxxxxxxxxxxxx{{{\"\\}",
            b"xxxxxxxxxxxx\"{{[}]\\\\",
            b"\\\\\\\\\"x{{{{{{{}",
            b"xx(')\"{}[]",
        ] {
            for round in 0..3000 {
                let length = random(400);
                let mut text = b"{".to_vec();
                // Deep enough that some values do not end at once.
                text.extend(std::iter::repeat_n(b'[', round % 9));
                text.extend((0..length).map(|_| alphabet[random(alphabet.len())]));
                for dialect in [Dialect::Json, Dialect::Python] {
                    let mut scan = Scan::new(b'{', dialect);
                    let mut slow = scan.clone();
                    let cut = random(text.len());
                    for part in [&text[..cut], &text[cut..]] {
                        let found = scan.run(part);
                        assert_eq!(found, slowly(&mut slow, part), "{:?}", text.escape_ascii());
                        assert_eq!(scan, slow);
                        if found.1.is_some() {
                            break;
                        }
                    }
                }
            }
        }
    }
}
