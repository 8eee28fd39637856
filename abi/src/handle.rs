//! Handles: what a C program holds of our objects.
//!
//! A handle looks like a pointer and is none. It is a number that leads through a table to the object, with the
//! number of times its place in the table was used before. So a handle that was released, or is of another kind, or
//! is any other pointer, is found out without touching the memory it seems to lead to, and an object lives until the
//! last call that uses it has returned, whoever releases it meanwhile.
//!
//! ```text
//! bit   63 ... 32   31 ... 2   1 0
//!       use count   place      0 1     never an aligned pointer, never NULL
//! ```
//!
//! A cancel token's is alike and ends with `1 1` ([`crate::cancel`]).

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::fault::Fault;
use crate::status::GRAFT_E_HANDLE;

/// A kind of object that programs hold.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Its name in messages: "session".
    const NAME: &'static str;
}

/// A handle as it crosses the border; what is in it is whatever the caller gives.
#[repr(transparent)]
pub struct Handle<K>(*mut K, PhantomData<fn() -> K>);

impl<K> fmt::Debug for Handle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

impl<K> Clone for Handle<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Handle<K> {}

const HALF: u32 = usize::BITS / 2;
const PLACES: usize = 1 << (HALF - 2);
const TAG: usize = 0b01;
const USES: usize = 1 << HALF;

struct Place {
    /// How often it was used, never 0 while an object is here.
    uses: usize,
    /// References the program holds.
    held: usize,
    kind: &'static str,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

struct Table {
    places: Vec<Place>,
    free: Vec<usize>,
}

static TABLE: RwLock<Table> = RwLock::new(Table {
    places: Vec::new(),
    free: Vec::new(),
});

/// How many objects programs hold.
pub fn held() -> usize {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    table.places.len() - table.free.len()
}

impl<K: Kind> Handle<K> {
    /// No object.
    #[cfg(test)]
    pub const NULL: Self = Self(ptr::null_mut(), PhantomData);

    /// A handle to a new object, which the program must release.
    ///
    /// # Errors
    /// If there are a thousand million objects already.
    pub fn new(object: K) -> Result<Self, Fault> {
        Self::share(Arc::new(object))
    }

    /// The same for an object that others hold as well.
    ///
    /// # Errors
    /// As [`Handle::new`].
    pub fn share(object: Arc<K>) -> Result<Self, Fault> {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.places.len() < PLACES => {
                table.places.push(Place {
                    uses: 0,
                    held: 0,
                    kind: K::NAME,
                    object: None,
                });
                table.places.len() - 1
            }
            None => {
                let message = format!("there are {PLACES} objects already; release some");
                return Err(Fault::new(crate::status::GRAFT_E_MEMORY, message));
            }
        };
        let place = &mut table.places[index];
        place.uses = (place.uses + 1) % USES;
        place.held = 1;
        place.kind = K::NAME;
        place.object = Some(object);
        let address = place.uses << HALF | index << 2 | TAG;
        Ok(Self(ptr::without_provenance_mut(address), PhantomData))
    }

    /// Whether it is NULL.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The object.
    ///
    /// # Errors
    /// If it is NULL, was released, or is of another kind.
    pub fn get(self) -> Result<Arc<K>, Fault> {
        let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
        let place = self.find(&table.places)?;
        let object = table.places[place].object.clone();
        object
            .and_then(|object| object.downcast().ok())
            .ok_or_else(|| self.refused("is not one"))
    }

    /// The object, or `None` for NULL.
    ///
    /// # Errors
    /// If it was released, or is of another kind.
    pub fn optional(self) -> Result<Option<Arc<K>>, Fault> {
        match self.is_null() {
            true => Ok(None),
            false => self.get().map(Some),
        }
    }

    /// Holds the object once more.
    ///
    /// # Errors
    /// As [`Handle::get`].
    pub fn retain(self) -> Result<(), Fault> {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        let place = self.find(&table.places)?;
        table.places[place].held += 1;
        Ok(())
    }

    /// Lets the object go; it ends with the last reference and the last call that uses it. NULL is no object
    /// to let go.
    ///
    /// # Errors
    /// As [`Handle::get`], but for NULL.
    pub fn release(self) -> Result<(), Fault> {
        if self.is_null() {
            return Ok(());
        }
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        let index = self.find(&table.places)?;
        let place = &mut table.places[index];
        place.held -= 1;
        if place.held > 0 {
            return Ok(());
        }
        let object = place.object.take();
        table.free.push(index);
        // An object may take long to end, or hold handles of its own.
        drop(table);
        drop(object);
        Ok(())
    }

    /// Where its object is in the table.
    fn find(self, places: &[Place]) -> Result<usize, Fault> {
        let address = self.0.addr();
        let (uses, index) = (address >> HALF, (address & (USES - 1)) >> 2);
        if self.is_null() {
            return Err(self.refused("is NULL"));
        }
        match places.get(index) {
            Some(place)
                if address & 0b11 == TAG && place.uses == uses && place.object.is_some() =>
            {
                match place.kind == K::NAME {
                    true => Ok(index),
                    false => Err(self.refused(&format!("is a {}", place.kind))),
                }
            }
            _ => Err(self.refused("was released, or never was one")),
        }
    }

    fn refused(self, what: &str) -> Fault {
        Fault::new(
            GRAFT_E_HANDLE,
            format!("the {} that was given {what}", K::NAME),
        )
    }
}

/// `graft_<kind>_retain` and `graft_<kind>_release` of an object that threads share.
macro_rules! shared_kind {
    ($kind:ty, $name:literal, $retain:ident, $release:ident) => {
        impl $crate::handle::Kind for $kind {
            const NAME: &'static str = $name;
        }

        /// See `graft.h`.
        #[unsafe(no_mangle)]
        pub extern "C" fn $retain(object: $crate::handle::Handle<$kind>) {
            $crate::call::value(stringify!($retain), (), || object.retain())
        }

        $crate::handle::releases!($kind, $release);
    };
}

/// The same for an object of one call at a time, which has one owner.
macro_rules! exclusive_kind {
    ($kind:ty, $name:literal, $release:ident) => {
        impl $crate::handle::Kind for $kind {
            const NAME: &'static str = $name;
        }

        $crate::handle::releases!($kind, $release);
    };
}

macro_rules! releases {
    ($kind:ty, $release:ident) => {
        /// See `graft.h`.
        #[unsafe(no_mangle)]
        pub extern "C" fn $release(object: $crate::handle::Handle<$kind>) {
            $crate::call::value(stringify!($release), (), || object.release())
        }
    };
}

pub(crate) use {exclusive_kind, releases, shared_kind};

#[cfg(test)]
mod tests {
    use super::*;

    struct Apple(Arc<()>);
    struct Pear;
    impl Kind for Apple {
        const NAME: &'static str = "apple";
    }
    impl Kind for Pear {
        const NAME: &'static str = "pear";
    }

    #[test]
    fn a_released_handle_never_leads_to_a_later_object() {
        let first = Handle::new(Pear).unwrap();
        first.release().unwrap();
        let later: Vec<_> = (0..100).map(|_| Handle::new(Pear).unwrap()).collect();
        assert!(first.get().is_err());
        assert!(first.release().is_err() && first.retain().is_err());
        for handle in later {
            handle.get().unwrap();
            handle.release().unwrap();
        }
    }

    #[test]
    fn other_kinds_and_other_pointers_are_found_out() {
        let pear = Handle::new(Pear).unwrap();
        let as_apple = Handle::<Apple>(pear.0.cast(), PhantomData);
        assert!(
            as_apple
                .get()
                .err()
                .unwrap()
                .message()
                .contains("is a pear")
        );
        assert!(Handle::<Pear>::NULL.get().is_err());
        Handle::<Pear>::NULL.release().unwrap();
        let mut local = 0_u64;
        let pointer = Handle::<Pear>((&raw mut local).cast(), PhantomData);
        assert!(pointer.get().is_err() && pointer.release().is_err());
        for address in [1, 3, usize::MAX, usize::MAX - 1, 1 << HALF | 1] {
            let made_up = Handle::<Apple>(ptr::without_provenance_mut(address), PhantomData);
            assert!(made_up.get().is_err(), "{address:#x}");
        }
        pear.release().unwrap();
    }

    #[test]
    fn an_object_lives_until_its_last_reference_and_its_last_call() {
        let alive = Arc::new(());
        let handle = Handle::new(Apple(Arc::clone(&alive))).unwrap();
        handle.retain().unwrap();
        let in_use = handle.get().unwrap();
        handle.release().unwrap();
        handle.get().unwrap();
        handle.release().unwrap();
        assert!(handle.get().is_err());
        assert_eq!(Arc::strong_count(&in_use.0), 2);
        drop(in_use);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
