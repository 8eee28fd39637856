//! Inputs that nobody meant: no format at all, other formats, and exports that were cut or damaged. The same
//! ones on every machine.

/// Beginnings of files of other formats.
pub const OTHER_FORMATS: [(&str, &[u8]); 8] = [
    (
        "list.json",
        b"[{\"a\": 1, \"b\": [true, null]}, {\"a\": 2}]",
    ),
    ("object.json", b"{\"version\": 3, \"items\": []}"),
    ("lines.jsonl", b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n"),
    ("table.csv", b"name,value\n\"a, b\",1\nc,2\n"),
    (
        "page.xml",
        b"<?xml version=\"1.0\"?>\n<root><leaf/></root>\n",
    ),
    (
        "picture.png",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0",
    ),
    ("archive.zip", b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0"),
    ("letter.txt", b"Dear reader,\n\nthis is no data set.\n"),
];

/// Inputs that are hard to read, by name.
pub fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(7);
    let noise = (0..1 << 16).map(|_| random.below(256) as u8).collect();
    let open = |piece: &str| piece.repeat(100_000).into_bytes();
    let long = [b"[{\"text\": \"".to_vec(), vec![b'x'; 1 << 20]].concat();
    vec![
        ("65,536 random bytes", noise),
        ("zeros", vec![0; 4096]),
        ("bytes that are never UTF-8", vec![0xff; 4096]),
        ("a character cut in its middle", b"[\"a\xe2\x82".to_vec()),
        ("UTF-16", b"\xff\xfe[\0]\0\n\0".to_vec()),
        ("100,000 open brackets", open("[")),
        ("100,000 open objects", open("{\"a\":")),
        ("a string without end", long),
        (
            "numbers that no type holds",
            b"[1e999, -1e999, 99999999999999999999999]".to_vec(),
        ),
        ("half a surrogate", b"[{\"text\": \"\\ud800\"}]".to_vec()),
        ("only line ends", b"\n\r\n\r\r\n".repeat(100)),
        ("only separators", b",\t;\t,\"\t\"\n".repeat(100)),
    ]
}

/// The most cuts of an export.
const CUTS: usize = 2000;
/// The most bytes of an export that is cut.
const CUT_BYTES: usize = 64 << 10;

/// Where an export of `bytes` bytes is cut: everywhere if it is small, else everywhere near both ends and
/// here and there between.
pub fn cuts(bytes: usize) -> Vec<usize> {
    let bytes = bytes.min(CUT_BYTES);
    if bytes <= CUTS {
        return (0..bytes).collect();
    }
    let near = CUTS / 4;
    let between = (near..bytes - near).step_by((bytes - 2 * near).div_ceil(CUTS / 2));
    (0..near)
        .chain(between)
        .chain(bytes - near..bytes)
        .collect()
}

/// `export` with `round` decides what put in the place of what.
pub fn damaged(export: &[u8], round: u64) -> Vec<u8> {
    const PIECES: [&[u8]; 14] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b"\t",
        b"\n",
        b"null",
        b"-1",
        b"1e999",
        b"\\u",
        b"\xff",
        b"99999999999999999999",
    ];
    let mut random = Random(round);
    let mut bytes = export[..export.len().min(4096)].to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(2) {
            0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

/// A small generator; the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        const BY: u64 = 6_364_136_223_846_793_005;
        self.0 = self
            .0
            .wrapping_mul(BY)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_exports_are_cut_everywhere_and_large_ones_at_both_ends() {
        assert_eq!(cuts(3), [0, 1, 2]);
        let many = cuts(1 << 30);
        assert!(many.len() <= CUTS + 1 && many.is_sorted());
        assert_eq!((many[1], many[many.len() - 1]), (1, CUT_BYTES - 1));
    }
}
