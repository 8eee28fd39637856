//! What C programs give by pointer, as types whose methods are safe.
//!
//! Each type is a pointer at the border and nothing else. The invariant of all of them: they are made by the callers
//! of our functions, and `graft.h` says what they promise: that a pointer is NULL or leads to as much as it says, for as
//! long as the call takes. That is the one thing that no library can check; everything else is checked here.

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::slice;

use crate::fault::Fault;
use crate::handle::{Handle, Kind};
use crate::status::GRAFT_E_BUFFER_SIZE;
use crate::structs::{CStruct, Plain};

/// A length that stands for "up to the NUL".
pub const GRAFT_NUL_TERMINATED: usize = usize::MAX;

/// A NUL-terminated text, or NULL.
#[repr(transparent)]
#[derive(Debug)]
pub struct Text(*const c_char);

impl Text {
    /// The text; `name` is the argument's in messages.
    ///
    /// # Errors
    /// If it is NULL or not UTF-8.
    pub fn required(&self, name: &'static str) -> Result<&str, Fault> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    /// The text, `None` for NULL.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn optional(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL, so the caller promises a terminated text that lasts as long as the call, in which this
        // value lives.
        let text = unsafe { CStr::from_ptr(self.0) };
        utf8(text.to_bytes(), name).map(Some)
    }

    /// A path.
    ///
    /// # Errors
    /// If it is NULL, empty or not UTF-8.
    pub fn path(&self, name: &'static str) -> Result<&Path, Fault> {
        self.optional_path(name)?.ok_or_else(|| missing(name))
    }

    /// A path, `None` for NULL.
    ///
    /// # Errors
    /// If it is empty or not UTF-8.
    pub fn optional_path(&self, name: &'static str) -> Result<Option<&Path>, Fault> {
        match self.optional(name)? {
            Some("") => Err(Fault::argument(format!("{name} is empty"))),
            text => Ok(text.map(Path::new)),
        }
    }
}

/// The beginning of `T`s that the caller lends, or NULL.
#[repr(transparent)]
#[derive(Debug)]
pub struct In<T>(*const T);

impl<T: Plain> In<T> {
    /// `count` of them; none may be NULL only if there are none.
    ///
    /// # Errors
    /// If it is NULL, misaligned, or longer than memory.
    pub fn slice(&self, count: usize, name: &'static str) -> Result<&[T], Fault> {
        if count == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() {
            return Err(missing(name));
        }
        if !self.0.is_aligned() || count > isize::MAX as usize / size_of::<T>().max(1) {
            return Err(Fault::argument(format!(
                "{name} is no array of {count} elements"
            )));
        }
        // SAFETY: not NULL, aligned and no longer than memory; the caller promises that many elements, for as long
        // as the call, in which this value lives. Any bits are a `Plain` value.
        Ok(unsafe { slice::from_raw_parts(self.0, count) })
    }
}

impl<T> In<T> {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

impl In<u8> {
    /// A text of `len` bytes, or up to its NUL.
    ///
    /// # Errors
    /// If it is NULL although it has a length, or not UTF-8.
    pub fn text(&self, len: usize, name: &'static str) -> Result<&str, Fault> {
        if len != GRAFT_NUL_TERMINATED {
            return utf8(self.slice(len, name)?, name);
        }
        if self.0.is_null() {
            return Err(missing(name));
        }
        // SAFETY: not NULL, so the caller promises a terminated text that lasts as long as the call.
        let text = unsafe { CStr::from_ptr(self.0.cast()) };
        utf8(text.to_bytes(), name)
    }
}

impl<K: Kind> In<Handle<K>> {
    /// The objects of `count` handles.
    ///
    /// # Errors
    /// If it is NULL although there are some, or one of them is no such object.
    pub fn objects(
        &self,
        count: usize,
        name: &'static str,
    ) -> Result<Vec<std::sync::Arc<K>>, Fault> {
        self.slice(count, name)?.iter().map(|h| h.get()).collect()
    }
}

impl In<Text> {
    /// `count` texts.
    ///
    /// # Errors
    /// If it is NULL although there are some, or one of them is NULL or not UTF-8.
    pub fn texts(&self, count: usize, name: &'static str) -> Result<Vec<&str>, Fault> {
        let texts = self.slice(count, name)?;
        texts.iter().map(|text| text.required(name)).collect()
    }
}

impl<T: CStruct> In<T> {
    /// A struct of the caller's; NULL stands for one of zeros.
    ///
    /// # Errors
    /// If it has fields set that this library does not know, or no size.
    pub fn read(&self) -> Result<T, Fault> {
        match self.0.is_null() {
            true => Ok(T::zeroed()),
            // SAFETY: not NULL, so the caller promises a struct of the size that it says.
            false => unsafe { T::read(self.0) },
        }
    }

    /// What this library knows of a struct, for what must be taken from it even if the rest is refused.
    ///
    /// # Errors
    /// If it has no size.
    pub fn known(&self) -> Result<T, Fault> {
        match self.0.is_null() {
            true => Ok(T::zeroed()),
            // SAFETY: not NULL, so the caller promises a struct of the size that it says.
            false => unsafe { T::known(self.0) },
        }
    }

    /// As [`In::read`], but it may not be NULL.
    ///
    /// # Errors
    /// As [`In::read`], and for NULL.
    pub fn required(&self, name: &'static str) -> Result<T, Fault> {
        match self.0.is_null() {
            true => Err(missing(name)),
            false => self.read(),
        }
    }

    /// `count` structs one after the other, each as large as the first one says.
    ///
    /// # Errors
    /// If it is NULL although there are some, or as [`In::read`].
    pub fn structs(&self, count: usize, name: &'static str) -> Result<Vec<T>, Fault> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(missing(name));
        }
        // SAFETY: not NULL, so the caller promises at least one struct, which begins with its size.
        let stride = unsafe { T::size(self.0) }?;
        if count > isize::MAX as usize / stride {
            return Err(Fault::argument(format!(
                "{name} is no array of {count} elements"
            )));
        }
        let place = |i: usize| self.0.wrapping_byte_add(i * stride);
        // SAFETY: the caller promises that many structs of the first one's size.
        (0..count).map(|i| unsafe { T::read(place(i)) }).collect()
    }
}

/// A struct of the program's on its way to another thread, while the call that it came with waits.
#[derive(Debug)]
pub struct Lent<T>(T);

// SAFETY: the pointers in the struct are the program's promise for the time of the call, whichever thread follows them;
// `Lent::during` says who waits.
unsafe impl<T> Send for Lent<T> {}

impl<T: CStruct> Lent<T> {
    /// What another thread looks at before the call returns, and not afterwards.
    pub fn during(call: T) -> Self {
        Self(call)
    }

    /// The struct.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Where a result goes, or NULL.
#[repr(transparent)]
#[derive(Debug)]
pub struct Out<T>(*mut T);

impl<T: Plain> Out<T> {
    /// Refuses NULL; for the beginning of a call whose result would be lost.
    ///
    /// # Errors
    /// If it is NULL.
    pub fn check(&self, name: &'static str) -> Result<(), Fault> {
        match self.0.is_null() {
            true => Err(missing(name)),
            false => Ok(()),
        }
    }

    /// Writes the result, unless the caller wants none.
    pub fn set(&self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not NULL, so the caller promises room for one; it need not be aligned.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// Copies `values` to an array of `capacity`, and their number to `needed`. NULL with a capacity of 0 asks for
    /// the number alone.
    ///
    /// # Errors
    /// If they are more than fit; nothing but the number is written then.
    pub fn fill(&self, capacity: usize, needed: &Out<usize>, values: &[T]) -> Result<(), Fault> {
        needed.set(values.len());
        if self.0.is_null() && capacity > 0 {
            return Err(missing("the buffer"));
        }
        if values.len() > capacity {
            if self.0.is_null() {
                return Ok(());
            }
            let (have, want) = (capacity, values.len());
            let message = format!("the buffer has room for {have}, {want} are needed");
            return Err(Fault::new(GRAFT_E_BUFFER_SIZE, message).with("needed", want));
        }
        self.set_all(values);
        Ok(())
    }

    /// Copies `values` to an array that is as long as `graft.h` says, unless the caller wants none.
    pub fn set_all(&self, values: &[T]) {
        if !self.0.is_null() {
            // SAFETY: not NULL and at least as long as the values, as the caller promises; bytes are copied, so it
            // need not be aligned, and it cannot overlap values of ours.
            unsafe {
                let (from, to) = (values.as_ptr().cast::<u8>(), self.0.cast::<u8>());
                to.copy_from_nonoverlapping(from, size_of_val(values));
            }
        }
    }
}

impl<K: Kind> Out<Handle<K>> {
    /// Gives a new object to the caller, who must release it.
    ///
    /// # Errors
    /// If there is nowhere to put it.
    pub fn give(&self, object: K) -> Result<(), Fault> {
        self.check("out")?;
        self.set(Handle::new(object)?);
        Ok(())
    }

    /// The same if the caller wants it.
    ///
    /// # Errors
    /// As [`Handle::new`].
    pub fn offer(&self, object: K) -> Result<(), Fault> {
        match self.0.is_null() {
            true => Ok(()),
            false => self.give(object),
        }
    }
}

/// Where a result struct goes, or NULL.
#[repr(transparent)]
#[derive(Debug)]
pub struct OutStruct<T>(*mut T);

impl<T: CStruct> OutStruct<T> {
    /// Whether the caller wants none.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Refuses NULL and a struct without a size.
    ///
    /// # Errors
    /// Says which.
    pub fn check(&self, name: &'static str) -> Result<(), Fault> {
        if self.0.is_null() {
            return Err(missing(name));
        }
        // SAFETY: not NULL, so the caller promises a struct, which begins with its size.
        unsafe { T::size(self.0) }.map(|_| ())
    }

    /// Writes as much of the result as the caller's struct has room for, unless the caller wants none.
    ///
    /// # Errors
    /// If the struct says no size.
    pub fn set(&self, value: &T) -> Result<(), Fault> {
        if self.0.is_null() {
            return Ok(());
        }
        // SAFETY: not NULL, so the caller promises a struct of the size that it says.
        unsafe { T::write(self.0, value) }
    }
}

impl<T: CStruct> OutStruct<T> {
    /// Copies `values` to an array of `capacity` structs, each as large as the first one says, and their number to
    /// `needed`. NULL with a capacity of 0 asks for the number alone. Each has an object in the field `object`, which
    /// the program could not release if it were written nowhere.
    ///
    /// # Errors
    /// If they are more than fit, or the first says no size, or one without room for the object; nothing but the
    /// number is written then.
    pub fn fill(
        &self,
        capacity: usize,
        needed: &Out<usize>,
        object: &str,
        values: impl ExactSizeIterator<Item = Result<T, Fault>>,
    ) -> Result<(), Fault> {
        let count = values.len();
        needed.set(count);
        if self.0.is_null() {
            return match capacity {
                0 => Ok(()),
                _ => Err(missing("the array")),
            };
        }
        if count > capacity {
            let message = format!("the array has room for {capacity}, {count} are needed");
            return Err(Fault::new(GRAFT_E_BUFFER_SIZE, message).with("needed", count));
        }
        if count == 0 {
            return Ok(());
        }
        // SAFETY: not NULL and at least one struct long, which begins with its size.
        let stride = unsafe { T::size(self.0) }?;
        let room = T::FIELDS.iter().find(|(field, ..)| *field == object);
        if room.is_none_or(|(_, from, bytes)| from + bytes > stride) {
            let message = format!(
                "struct_size of the {} is {stride}, without room for {object}",
                T::NAME
            );
            return Err(Fault::argument(message));
        }
        for (i, value) in values.enumerate() {
            let value = value?;
            let place = self.0.wrapping_byte_add(i * stride);
            // SAFETY: the caller promises `capacity` structs of the first one's size, of which this is one.
            unsafe {
                place.cast::<u32>().write_unaligned(stride as u32);
                T::write(place, &value)?;
            }
        }
        Ok(())
    }
}

fn missing(name: &str) -> Fault {
    Fault::argument(format!("{name} is NULL"))
}

fn utf8<'a>(bytes: &'a [u8], name: &'static str) -> Result<&'a str, Fault> {
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Fault::argument(format!("{name} is not UTF-8 at byte {at}")).with("offset", at)
    })
}
