//! NumPy's `.npy` format, as far as a matrix of f32 needs it.

use std::io::{self, Write};

/// Writes the header of a `[rows, columns]` matrix of little-endian f32; its rows follow.
///
/// Source: numpy.lib.format, version 1.0.
pub fn write_header(out: &mut impl Write, rows: usize, columns: usize) -> io::Result<()> {
    const BEGINNING: usize = 10;
    const ALIGNMENT: usize = 64;
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Blanks and a line end fill up to the alignment of the data.
    let filled = (BEGINNING + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(
        ' ',
        filled - BEGINNING - header.len() - 1,
    ));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    let length = u16::try_from(header.len()).expect("two numbers are short");
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_begin_aligned() {
        let mut out = Vec::new();
        write_header(&mut out, 12, 32_000).unwrap();
        assert_eq!(out.len() % 64, 0);
        assert_eq!(&out[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(
            u16::from_le_bytes([out[8], out[9]]) as usize,
            out.len() - 10
        );
        assert!(String::from_utf8_lossy(&out).contains("'shape': (12, 32000)"));
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
