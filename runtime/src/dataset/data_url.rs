//! Images inside a data set: `data:image/png;base64,…` in place of a file name.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The URL that holds an encoded image.
pub(super) fn write(image: &[u8]) -> String {
    let kind = match image {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, ..] => "jpeg",
        [b'G', b'I', b'F', ..] => "gif",
        [b'B', b'M', ..] => "bmp",
        _ => "webp",
    };
    let mut out = format!("data:image/{kind};base64,");
    out.reserve(image.len().div_ceil(3) * 4);
    for chunk in image.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

/// The image that `name` holds; `None` if it is a file name, and a reason if it is neither.
pub(super) fn read(name: &str) -> Option<Result<Vec<u8>, &'static str>> {
    let rest = name.strip_prefix("data:")?;
    Some(match rest.split_once(";base64,") {
        Some((_, digits)) => decode(digits).ok_or("a data: URL whose base64 is damaged"),
        None => Err("a data: URL that is not base64"),
    })
}

fn decode(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for chunk in digits.chunks(4) {
        let mut bits = 0;
        for &digit in chunk {
            bits = bits << 6 | u32::try_from(DIGITS.iter().position(|&d| d == digit)?).ok()?;
        }
        // A lone digit has not the bits of a byte.
        let bytes = match chunk.len() {
            1 => return None,
            length => length - 1,
        };
        bits <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..][..bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in 0..40 {
            let image: Vec<u8> = (0..length).map(|i| (i * 37 + 251) as u8).collect();
            assert_eq!(read(&write(&image)), Some(Ok(image)));
        }
        assert_eq!(write(b"\x89PNG\xff"), "data:image/png;base64,iVBOR/8=");
        assert_eq!(read("a.png"), None);
        for bad in [
            "data:image/png,abc",
            "data:;base64,A",
            "data:;base64,AB!C",
            "data:",
        ] {
            assert!(matches!(read(bad), Some(Err(_))), "{bad}");
        }
    }
}
