//! Structs that grow: the first field is the size the caller was compiled with.
//!
//! Fields are only ever added at the end, and zero is every field's default. A shorter struct is read as if zeros
//! followed; a longer one is accepted as long as what this library does not know is zero, as Linux does it for
//! `clone3` and `openat2`.

use std::ptr;

use crate::fault::Fault;
use crate::status::GRAFT_E_VERSION;

/// The size of a struct, and its fields with their offset and size.
pub type Layout = (&'static str, usize, &'static [(&'static str, usize, usize)]);

/// No struct of any version is longer; one that says so was never begun.
const LONGEST: usize = 1 << 16;

/// A type of which any bits are a value, so that callers can give it in an array.
///
/// # Safety
/// It has no invalid bits and needs no drop.
pub unsafe trait Plain {}

// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for u64 {}
// SAFETY: numbers.
unsafe impl Plain for usize {}
// SAFETY: numbers.
unsafe impl Plain for isize {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for f64 {}
// SAFETY: a pointer, which is looked up and never followed.
unsafe impl<K> Plain for crate::handle::Handle<K> {}
// SAFETY: a pointer; its type's invariant is the caller's promise.
unsafe impl Plain for crate::pointer::Text {}
// SAFETY: a pointer that graft hands out and never follows.
unsafe impl<T> Plain for *const T {}

/// A struct that begins with its size.
///
/// # Safety
/// It is `repr(C)`, begins with a `u32` size, zeros are a value of it, any bits are, and it needs no drop.
pub unsafe trait CStruct: Sized {
    /// Its name in C.
    const NAME: &'static str;
    /// Its fields: name, offset, size.
    const FIELDS: &'static [(&'static str, usize, usize)];

    /// All zeros, which stand for every default.
    fn zeroed() -> Self {
        // SAFETY: zeros are a value, as the trait says.
        unsafe { std::mem::zeroed() }
    }

    /// The size that the struct at `from` says.
    ///
    /// # Errors
    /// If it says none, or one that ends inside a field: half a pointer leads anywhere.
    ///
    /// # Safety
    /// `from` leads to at least four bytes.
    unsafe fn size(from: *const Self) -> Result<usize, Fault> {
        // SAFETY: four bytes are there, as the caller says; they need not be aligned.
        let size = unsafe { from.cast::<u32>().read_unaligned() } as usize;
        let cuts = |&(_, from, bytes): &(_, usize, usize)| from < size && size < from + bytes;
        let whole = !Self::FIELDS.iter().any(cuts);
        if !(size_of::<u32>()..=LONGEST).contains(&size) || !whole {
            let name = Self::NAME;
            return Err(Fault::argument(format!(
                "struct_size of the {name} is {size}; begin with GRAFT_INIT({name})"
            )));
        }
        Ok(size)
    }

    /// Reads what this library knows of a struct of any length, whatever else is set.
    ///
    /// # Errors
    /// If it says no size.
    ///
    /// # Safety
    /// `from` leads to as many bytes as the struct says.
    unsafe fn known(from: *const Self) -> Result<Self, Fault> {
        // SAFETY: the struct is there, as the caller says.
        let known = size_of::<Self>().min(unsafe { Self::size(from) }?);
        let mut value = Self::zeroed();
        // SAFETY: both have `known` bytes, and one is on our stack.
        unsafe { ptr::copy_nonoverlapping(from.cast(), (&raw mut value).cast::<u8>(), known) };
        Ok(value)
    }

    /// Reads a struct of any length.
    ///
    /// # Errors
    /// If it says no size, or something is set beyond what this library knows.
    ///
    /// # Safety
    /// `from` leads to as many bytes as the struct says.
    unsafe fn read(from: *const Self) -> Result<Self, Fault> {
        // SAFETY: the struct is there, as the caller says.
        let (size, value) = unsafe { (Self::size(from)?, Self::known(from)?) };
        let known = size_of::<Self>().min(size);
        let from = from.cast::<u8>();
        // SAFETY: the struct has `size` bytes, as the caller says.
        let tail = unsafe { std::slice::from_raw_parts(from.add(known), size - known) };
        match tail.iter().position(|&byte| byte != 0) {
            None => Ok(value),
            Some(at) => Err(Fault::new(
                GRAFT_E_VERSION,
                format!(
                    "the {} has a field at byte {} that this version of graft does not know",
                    Self::NAME,
                    known + at
                ),
            )),
        }
    }

    /// Writes the fields that the struct at `to` has room for; its size stays, and what is longer becomes zero.
    ///
    /// # Errors
    /// If it says no size.
    ///
    /// # Safety
    /// `to` leads to as many bytes as the struct says.
    unsafe fn write(to: *mut Self, value: &Self) -> Result<(), Fault> {
        const SIZE: usize = size_of::<u32>();
        // SAFETY: the struct is there, as the caller says.
        let size = unsafe { Self::size(to) }?;
        let known = size_of::<Self>().min(size);
        let (from, to) = (ptr::from_ref(value).cast::<u8>(), to.cast::<u8>());
        // SAFETY: `known` bytes are in both, `size` in the caller's, and neither overlaps the other.
        unsafe {
            ptr::copy_nonoverlapping(from.add(SIZE), to.add(SIZE), known - SIZE);
            ptr::write_bytes(to.add(known), 0, size - known);
        }
        Ok(())
    }
}

/// Declares a struct of `graft.h`: `struct_size` comes first by itself.
macro_rules! c_struct {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        #[allow(non_camel_case_types)]
        pub struct $name {
            /// Its bytes, as the caller was compiled.
            pub struct_size: u32,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        // SAFETY: `repr(C)`, the size first; the fields are numbers, arrays of them, nullable pointers and
        // nullable functions, for which zeros are a value and any bits are what the caller promises.
        unsafe impl $crate::structs::CStruct for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, usize, usize)] = &[
                ("struct_size", 0, size_of::<u32>()),
                $((
                    stringify!($field),
                    std::mem::offset_of!($name, $field),
                    size_of::<$type>(),
                ),)*
            ];
        }
    };
}
pub(crate) use c_struct;

/// The layout of a struct, for the comparison with `graft.h`.
pub const fn layout<T: CStruct>() -> Layout {
    (T::NAME, size_of::<T>(), T::FIELDS)
}

/// A number for C; what is larger becomes the largest.
pub fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A text in a field of fixed length: as many whole characters as fit before a NUL.
pub fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    let mut end = text.len().min(N.saturating_sub(1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{GRAFT_E_ARGUMENT, GRAFT_E_VERSION};

    c_struct! {
        /// What a library of today knows.
        today {
            /// A number.
            a: u32,
            /// A longer one.
            b: u64,
        }
    }

    #[repr(C)]
    struct Tomorrow {
        today: today,
        c: u64,
    }

    fn read(size: u32, b: u64, c: u64) -> Result<today, crate::status::graft_status> {
        let today = today {
            struct_size: size,
            a: 7,
            b,
        };
        let tomorrow = Tomorrow { today, c };
        // SAFETY: no size in these tests is larger than `Tomorrow`.
        unsafe { today::read((&raw const tomorrow).cast()) }.map_err(|fault| fault.status())
    }

    #[test]
    fn a_struct_may_be_shorter_or_longer_than_known() {
        assert_eq!(read(16, 5, 9).unwrap().b, 5);
        let short = read(8, 5, 9).unwrap();
        assert_eq!((short.a, short.b), (7, 0));
        assert_eq!(read(24, 5, 0).unwrap().b, 5);
        assert_eq!(read(24, 5, 9).unwrap_err(), GRAFT_E_VERSION);
        assert_eq!(read(0, 5, 9).unwrap_err(), GRAFT_E_ARGUMENT);
        assert_eq!(read(12, 5, 9).unwrap_err(), GRAFT_E_ARGUMENT);
    }

    #[test]
    fn what_is_written_stays_within_the_callers_struct() {
        let value = today {
            struct_size: 0,
            a: 1,
            b: 2,
        };
        for (size, after) in [(8_u32, (1, 77, 88)), (16, (1, 2, 88)), (24, (1, 2, 0))] {
            let mut theirs = Tomorrow {
                today: today {
                    struct_size: size,
                    a: 66,
                    b: 77,
                },
                c: 88,
            };
            // SAFETY: no size here is larger than `Tomorrow`.
            unsafe { today::write((&raw mut theirs).cast(), &value) }.unwrap();
            let found = (theirs.today.a, theirs.today.b, theirs.c);
            assert_eq!((theirs.today.struct_size, found), (size, after));
        }
    }

    #[test]
    fn a_fixed_text_ends_with_a_whole_character_and_a_nul() {
        assert_eq!(fixed::<4>("abc"), *b"abc\0");
        assert_eq!(fixed::<4>("abcd"), *b"abc\0");
        assert_eq!(fixed::<4>("abé"), *b"ab\0\0");
    }
}
