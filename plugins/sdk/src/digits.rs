//! Digits of whole numbers, which most numbers of an export are.

/// The number that at most nine digits are; none if there is anything else among them.
#[inline]
pub(crate) fn short_number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(number * 10 + u32::from(digit))
    })
}

/// How many digits `text` begins with.
#[inline]
pub(crate) fn digits(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    if let Some(word) = text.first_chunk() {
        // Of a digit all that is left is less than ten; with the highest bit out of the way no sum carries.
        let word = u64::from_le_bytes(*word) ^ (EACH * u64::from(b'0'));
        let others = (word | ((word & (EACH * 0x7f)) + EACH * (0x80 - 10))) & (EACH * 0x80);
        if others != 0 {
            return others.trailing_zeros() as usize / 8;
        }
    }
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_end_at_any_other_byte() {
        for length in 0..12 {
            for other in 0..=255u8 {
                let mut text = b"9081726354".repeat(2)[..length].to_vec();
                text.push(other);
                text.extend(b"0\x80/:\xff0000");
                let expected = text.iter().position(|b| !b.is_ascii_digit()).unwrap();
                assert_eq!(digits(&text), expected, "{length} {other}");
                assert_eq!(digits(&text[..length]), length);
            }
        }
    }

    #[test]
    fn short_numbers_are_those_of_digits_alone() {
        for (text, number) in [("0", 0), ("007", 7), ("999999999", 999_999_999)] {
            assert_eq!(short_number(text.as_bytes()), Some(number));
        }
        for text in ["-1", "1.0", "1e3", "1/", "1:", "+1", " 1"] {
            assert_eq!(short_number(text.as_bytes()), None, "{text}");
        }
    }
}
