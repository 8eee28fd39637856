//! Structs of `graft.h` for tests in Rust, made from what the library says of their layout.
#![allow(dead_code)] // each test uses some of it

use std::sync::LazyLock;

/// A struct of `graft.h`, begun; fields go by their names.
pub struct Struct {
    name: &'static str,
    size: usize,
    fields: &'static [(&'static str, usize, usize)],
    words: Box<[u64]>,
}

impl Struct {
    /// Bytes there are, whatever the struct says of its size.
    const ROOM: usize = 1024;
    /// What is behind a struct that the library writes.
    const FILLING: u8 = 0xa5;

    /// With its size and zeros.
    pub fn new(name: &str) -> Self {
        static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(graft_abi::layouts);
        let found = LAYOUTS.iter().find(|(known, ..)| *known == name);
        let &(name, size, fields) = found.unwrap_or_else(|| panic!("{name} is not in graft.h"));
        let words = vec![0; Self::ROOM / 8].into_boxed_slice();
        let begun = Self {
            name,
            size,
            fields,
            words,
        };
        begun.set("struct_size", size as u64)
    }

    /// Sets a field to as many bytes of `value` as it has.
    pub fn set(mut self, field: &str, value: u64) -> Self {
        let (from, len) = self.place(field);
        for (at, byte) in (from..from + len).zip(value.to_le_bytes()) {
            self.put(at, byte);
        }
        self
    }

    /// What is in a field.
    pub fn get(&self, field: &str) -> u64 {
        let (from, len) = self.place(field);
        let mut value = [0; 8];
        for (byte, at) in value.iter_mut().zip(from..from + len) {
            *byte = self.byte(at);
        }
        u64::from_le_bytes(value)
    }

    /// As a program of another version has it: shorter, longer, or longer with something set there.
    pub fn sized(mut self, choice: u8) -> Self {
        let size = match choice {
            0..=199 => return self,
            200..=229 => usize::from(choice - 200) * self.size / 30,
            230..=249 => self.size + usize::from(choice - 229),
            _ => self.size + 8,
        };
        if choice >= 250 {
            self.put(self.size, choice);
        }
        self.set("struct_size", size as u64)
    }

    /// Every byte behind the size set to something that must not change.
    pub fn filled(mut self) -> Self {
        for at in size_of::<u32>()..Self::ROOM {
            self.put(at, Self::FILLING);
        }
        self
    }

    /// Looks whether the library has kept to the struct's size.
    pub fn check(&self) {
        let size = self.get("struct_size") as usize;
        let mut beyond = size.max(size_of::<u32>())..Self::ROOM;
        let untouched = beyond.all(|at| self.byte(at) == Self::FILLING);
        assert!(
            untouched,
            "something was written behind the {} bytes of {}",
            size, self.name
        );
    }

    /// Whether the library gets a field: the struct is long enough, and its size one that could be meant.
    pub fn reaches(&self, field: &str) -> bool {
        let size = self.get("struct_size") as usize;
        let cut = |&(_, from, len): &(_, usize, usize)| from < size && size < from + len;
        let (from, len) = self.place(field);
        size >= 4 && !self.fields.iter().any(cut) && from + len <= size
    }

    /// Its bytes, for an array of structs.
    pub fn words(&self) -> Vec<u64> {
        assert!(self.size.is_multiple_of(8), "{} has an odd size", self.name);
        self.words[..self.size / 8].to_vec()
    }

    /// Where it is, for the library.
    pub fn at(&self) -> usize {
        self.words.as_ptr().expose_provenance()
    }

    /// Where it is, for the library to write to.
    pub fn to(&mut self) -> usize {
        self.words.as_mut_ptr().expose_provenance()
    }

    fn place(&self, field: &str) -> (usize, usize) {
        let found = self.fields.iter().find(|(name, ..)| *name == field);
        let &(_, from, len) = found.unwrap_or_else(|| panic!("{} has no {field}", self.name));
        (from, len.min(8))
    }

    fn byte(&self, at: usize) -> u8 {
        self.words[at / 8].to_ne_bytes()[at % 8]
    }

    fn put(&mut self, at: usize, byte: u8) {
        let word = &mut self.words[at / 8];
        let mut bytes = word.to_ne_bytes();
        bytes[at % 8] = byte;
        *word = u64::from_ne_bytes(bytes);
    }
}

/// The size of a struct, and its fields with their offset and size.
type Layout = (&'static str, usize, &'static [(&'static str, usize, usize)]);

/// Where something is, for a field of a struct.
pub fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}
