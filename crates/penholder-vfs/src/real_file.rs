#![expect(unsafe_code, reason = "calls the methods of the VFS below")]
//! An open file of the VFS below.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use crate::api::{File, IOERR, IoMethods, NOTFOUND};
use crate::locks::Code;

/// An open file of the VFS below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealFile(NonNull<File>);

// SAFETY: SQLite itself uses a file on whichever thread has the connection, and the locks of the
// WAL index have a mutex of the VFS below.
unsafe impl Send for RealFile {}
// SAFETY: as above; it is only a pointer, and each call goes to the VFS below.
unsafe impl Sync for RealFile {}

/// Makes a method that calls the one of the VFS below.
macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*);)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(self, $($arg: $type),*) -> Code {
            match self.methods().$name {
                // SAFETY: the method of this open file; the caller of `new` guarantees that it is
                // open, and SQLite that its pointers are as the method wants them.
                Some(method) => unsafe { method(self.0.as_ptr(), $($arg),*) },
                None => IOERR,
            }
        }
    )*};
}

impl RealFile {
    /// # Safety
    ///
    /// `file` is open, and the result is not used once it is closed. Pointers that are passed to
    /// its methods are those that SQLite passed to the same method.
    pub(crate) unsafe fn new(file: *mut File) -> Option<Self> {
        NonNull::new(file).map(Self)
    }

    /// Returns the methods of the file.
    pub(crate) fn methods(&self) -> &IoMethods {
        // SAFETY: open, see `new`, so there is a file at the pointer.
        let file = unsafe { self.0.as_ref() };
        // SAFETY: an open file has methods, which live as long as it is open.
        unsafe { &*file.methods }
    }

    forward! {
        close();
        read(to: *mut c_void, len: c_int, at: i64);
        write(from: *const c_void, len: c_int, at: i64);
        truncate(len: i64);
        sync(flags: c_int);
        file_size(len: *mut i64);
        lock(level: c_int);
        unlock(level: c_int);
        check_reserved_lock(answer: *mut c_int);
        shm_map(region: c_int, size: c_int, extends: c_int, address: *mut *mut c_void);
        shm_lock(first: c_int, count: c_int, flags: c_int);
        shm_unmap(deletes: c_int);
        fetch(at: i64, len: c_int, address: *mut *mut c_void);
        unfetch(at: i64, address: *mut c_void);
    }

    pub(crate) fn file_control(self, op: c_int, argument: *mut c_void) -> Code {
        match self.methods().file_control {
            // SAFETY: as above.
            Some(method) => unsafe { method(self.0.as_ptr(), op, argument) },
            None => NOTFOUND,
        }
    }

    pub(crate) fn sector_size(self) -> c_int {
        match self.methods().sector_size {
            // SAFETY: as above.
            Some(method) => unsafe { method(self.0.as_ptr()) },
            None => 0,
        }
    }

    pub(crate) fn device_characteristics(self) -> c_int {
        match self.methods().device_characteristics {
            // SAFETY: as above.
            Some(method) => unsafe { method(self.0.as_ptr()) },
            None => 0,
        }
    }

    pub(crate) fn shm_barrier(self) {
        if let Some(method) = self.methods().shm_barrier {
            // SAFETY: as above.
            unsafe { method(self.0.as_ptr()) };
        }
    }

    /// Writes bytes of ours.
    pub(crate) fn write_bytes(self, bytes: &[u8], at: i64) -> Code {
        match c_int::try_from(bytes.len()) {
            Ok(len) => self.write(bytes.as_ptr().cast(), len, at),
            Err(_) => IOERR,
        }
    }
}
