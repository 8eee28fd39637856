//! Where the bytes stand that end texts and values, looked for many bytes at a time.
//!
//! In WebAssembly sixteen bytes are compared in one instruction (`simd128`, which is as deterministic as
//! the rest: every engine has it, and a plugin needs no flag for it); elsewhere, in tests, one by one.

/// Bytes of a [`Block`].
pub(crate) const BLOCK: usize = 64;

/// The bytes of a block that tell where a JSON value ends: a bit for each byte, the first the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub quotes: u64,
    pub backslashes: u64,
    /// `{`, `[` and `(`.
    pub opens: u64,
    /// `}`, `]` and `)`.
    pub closes: u64,
}

impl Block {
    /// The marks of a block.
    #[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
    pub fn of(bytes: &[u8; BLOCK]) -> Self {
        let mut block = Self::default();
        for (i, lane) in bytes.as_chunks().0.iter().enumerate() {
            let [quotes, backslashes, opens, closes] = lanes::structure(lane);
            let place = |bits: u16| u64::from(bits) << (i * lanes::WIDTH);
            block.quotes |= place(quotes);
            block.backslashes |= place(backslashes);
            block.opens |= place(opens);
            block.closes |= place(closes);
        }
        block
    }
}

/// The first byte that does not simply belong to a text in `quote`: the quote, a backslash or a control
/// character.
#[inline]
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
pub(crate) fn end_of_plain_text(bytes: &[u8], quote: u8) -> Option<usize> {
    let is_end = |b: u8| b == quote || b == b'\\' || b < b' ';
    let (chunks, rest) = bytes.as_chunks();
    // Most texts are short names.
    if let Some(lane) = chunks.first() {
        let ends = lanes::ends_of_text(lane, quote);
        if ends != 0 {
            return Some(ends.trailing_zeros() as usize);
        }
    }
    for (i, lane) in chunks.iter().enumerate().skip(1) {
        let ends = lanes::ends_of_text(lane, quote);
        if ends != 0 {
            return Some(i * lanes::WIDTH + ends.trailing_zeros() as usize);
        }
    }
    let rest = rest.iter().position(|&b| is_end(b));
    rest.map(|at| chunks.len() * lanes::WIDTH + at)
}

/// Whether two names are the same: few bytes at a time, as names are short.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    // The first and the last bytes, which may overlap, are all there are.
    let wide = (one.first_chunk::<8>(), other.first_chunk::<8>());
    if let (Some(first), Some(start)) = wide {
        return match one.len() {
            ..=16 => first == start && one.last_chunk::<8>() == other.last_chunk::<8>(),
            _ => first == start && one == other,
        };
    }
    let narrow = (one.first_chunk::<4>(), other.first_chunk::<4>());
    if let (Some(first), Some(start)) = narrow {
        return first == start && one.last_chunk::<4>() == other.last_chunk::<4>();
    }
    match (one, other) {
        ([a], [b]) => a == b,
        ([a, b], [c, d]) => a == c && b == d,
        ([a, b, c], [d, e, f]) => a == d && b == e && c == f,
        _ => true,
    }
}

/// How many line feeds there are, and where the last stands.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
pub(crate) fn line_feeds(bytes: &[u8]) -> (u64, Option<usize>) {
    let (chunks, rest) = bytes.as_chunks();
    let (mut count, mut last) = (0, None);
    for (i, lane) in chunks.iter().enumerate() {
        let feeds = lanes::line_feeds(lane);
        if feeds != 0 {
            count += u64::from(feeds.count_ones());
            last = Some(i * lanes::WIDTH + feeds.ilog2() as usize);
        }
    }
    let start = chunks.len() * lanes::WIDTH;
    for (i, _) in rest.iter().enumerate().filter(|(_, b)| **b == b'\n') {
        count += 1;
        last = Some(start + i);
    }
    (count, last)
}

/// How many characters of UTF-8 begin in `bytes`.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
pub(crate) fn character_starts(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks();
    let starts = |lane| lanes::character_starts(lane).count_ones() as usize;
    let whole: usize = chunks.iter().map(starts).sum();
    whole + rest.iter().filter(|b| begins_character(**b)).count()
}

/// Where the character behind `n` others begins.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
pub(crate) fn nth_character(bytes: &[u8], mut n: usize) -> Option<usize> {
    let (chunks, rest) = bytes.as_chunks();
    for (i, lane) in chunks.iter().enumerate() {
        let mut starts = lanes::character_starts(lane);
        let count = starts.count_ones() as usize;
        if n < count {
            for _ in 0..n {
                starts &= starts - 1;
            }
            return Some(i * lanes::WIDTH + starts.trailing_zeros() as usize);
        }
        n -= count;
    }
    let mut starts = rest.iter().enumerate();
    let starts = starts.by_ref().filter(|(_, b)| begins_character(**b));
    let found = starts.map(|(at, _)| at).nth(n);
    found.map(|at| chunks.len() * lanes::WIDTH + at)
}

/// Whether `byte` is no byte within a character of UTF-8.
fn begins_character(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod lanes {
    use core::arch::wasm32::{
        i8x16_ge, i8x16_splat, u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, v128, v128_load,
        v128_or,
    };

    pub const WIDTH: usize = 16;

    #[target_feature(enable = "simd128")]
    fn load(lane: &[u8; WIDTH]) -> v128 {
        // SAFETY: the sixteen bytes are there, and a load need not be aligned.
        unsafe { v128_load(lane.as_ptr().cast()) }
    }

    #[target_feature(enable = "simd128")]
    fn is(bytes: v128, byte: u8) -> v128 {
        u8x16_eq(bytes, u8x16_splat(byte))
    }

    #[target_feature(enable = "simd128")]
    pub fn structure(lane: &[u8; WIDTH]) -> [u16; 4] {
        let bytes = load(lane);
        // `[` and `{`, `]` and `}` differ in this bit alone.
        let folded = v128_or(bytes, u8x16_splat(0x20));
        [
            u8x16_bitmask(is(bytes, b'"')),
            u8x16_bitmask(is(bytes, b'\\')),
            u8x16_bitmask(v128_or(is(folded, b'{'), is(bytes, b'('))),
            u8x16_bitmask(v128_or(is(folded, b'}'), is(bytes, b')'))),
        ]
    }

    #[target_feature(enable = "simd128")]
    pub fn ends_of_text(lane: &[u8; WIDTH], quote: u8) -> u16 {
        let bytes = load(lane);
        let control = u8x16_lt(bytes, u8x16_splat(b' '));
        let ends = v128_or(is(bytes, quote), is(bytes, b'\\'));
        u8x16_bitmask(v128_or(ends, control))
    }

    #[target_feature(enable = "simd128")]
    pub fn character_starts(lane: &[u8; WIDTH]) -> u16 {
        // Bytes within a character are the smallest ones of those with a sign.
        u8x16_bitmask(i8x16_ge(load(lane), i8x16_splat(-0x40)))
    }

    #[target_feature(enable = "simd128")]
    pub fn line_feeds(lane: &[u8; WIDTH]) -> u16 {
        u8x16_bitmask(is(load(lane), b'\n'))
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod lanes {
    pub const WIDTH: usize = 16;

    fn bits(lane: &[u8; WIDTH], is: impl Fn(u8) -> bool) -> u16 {
        let bits = lane.iter().enumerate();
        bits.fold(0, |bits, (i, &byte)| bits | (u16::from(is(byte)) << i))
    }

    pub fn structure(lane: &[u8; WIDTH]) -> [u16; 4] {
        [
            bits(lane, |b| b == b'"'),
            bits(lane, |b| b == b'\\'),
            bits(lane, |b| matches!(b, b'{' | b'[' | b'(')),
            bits(lane, |b| matches!(b, b'}' | b']' | b')')),
        ]
    }

    pub fn ends_of_text(lane: &[u8; WIDTH], quote: u8) -> u16 {
        bits(lane, |b| b == quote || b == b'\\' || b < b' ')
    }

    pub fn character_starts(lane: &[u8; WIDTH]) -> u16 {
        bits(lane, super::begins_character)
    }

    pub fn line_feeds(lane: &[u8; WIDTH]) -> u16 {
        bits(lane, |b| b == b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_of_a_text_is_found_wherever_it_stands() {
        for length in 0..50 {
            let plain = "é".repeat(length) + "[x";
            assert_eq!(end_of_plain_text(plain.as_bytes(), b'"'), None);
            for end in ["\"", "\\", "\n", "\u{1f}"] {
                let text = format!("{plain}{end}{plain}\"");
                let found = end_of_plain_text(text.as_bytes(), b'"');
                assert_eq!(found, Some(plain.len()), "{text:?}");
            }
            let text = format!("{plain}\"{plain}'");
            let found = end_of_plain_text(text.as_bytes(), b'\'');
            assert_eq!(found, Some(text.len() - 1));
        }
    }

    #[test]
    fn names_are_the_same_where_all_their_bytes_are() {
        for length in 0..40 {
            let name = vec![b'x'; length];
            assert!(same(&name, &name.clone()));
            assert!(!same(&name, &vec![b'x'; length + 1]));
            for at in 0..length {
                let mut other = name.clone();
                other[at] = b'y';
                assert!(!same(&name, &other), "{length} bytes, {at}");
            }
        }
    }

    #[test]
    fn line_feeds_are_counted_and_the_last_is_found() {
        assert_eq!(line_feeds(b""), (0, None));
        for length in 0..70 {
            let line = "x".repeat(length);
            let text = format!("{line}\n\n{line}\n{line}");
            let found = line_feeds(text.as_bytes());
            assert_eq!(found, (3, Some(2 * length + 2)), "{length}");
        }
    }

    #[test]
    fn a_block_has_a_bit_for_every_mark() {
        let mut bytes = [b'x'; BLOCK];
        for (at, mark) in [(0, b'{'), (15, b'"'), (16, b'\\'), (31, b']'), (63, b')')] {
            bytes[at] = mark;
        }
        let block = Block {
            quotes: 1 << 15,
            backslashes: 1 << 16,
            opens: 1,
            closes: 1 << 31 | 1 << 63,
        };
        assert_eq!(Block::of(&bytes), block);
    }
}
