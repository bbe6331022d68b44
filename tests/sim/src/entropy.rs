//! Randomness that comes from the seed.
//!
//! Hash maps, tokio's `select!` and openraft's election timeouts draw on the operating system
//! through the C library: std and newer crates call `getrandom`, the version that openraft's `rand`
//! uses calls `syscall(SYS_getrandom)`. Both functions are defined here, and the linker prefers a
//! definition in the program to the one in the library (madsim does the same). Until [`seed`] is
//! called they do what the library's do.
//!
//! This is the only file of the crate with `unsafe`: taking the place of a C function and calling
//! the original need it.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::rng;

/// `SYS_getrandom`.
#[cfg(target_arch = "x86_64")]
const GETRANDOM: c_long = 318;
#[cfg(target_arch = "aarch64")]
const GETRANDOM: c_long = 278;

/// The next definition in the order of the libraries: `RTLD_NEXT`.
const NEXT: *mut c_void = -1isize as *mut c_void;

/// Zero: not seeded.
static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The generator of this thread; zero before its first use.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// From now on, and for the life of the process, every thread draws the same bytes again in every
/// process with this seed.
pub fn seed(seed: u64) {
    SEED.store(rng::mix(seed) | 1, Ordering::SeqCst);
    STATE.set(0);
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// The library's own definition of a function.
fn original(name: &CStr, known: &AtomicUsize) -> *mut c_void {
    let found = known.load(Ordering::Relaxed);
    if found != 0 {
        return found as *mut c_void;
    }
    // SAFETY: the name ends with a zero byte, and dlsym only reads it.
    let found = unsafe { dlsym(NEXT, name.as_ptr()) };
    known.store(found as usize, Ordering::Relaxed);
    found
}

/// Fills the bytes from the thread's generator.
///
/// # Safety
/// `buffer` has room for `length` bytes.
unsafe fn fill(buffer: *mut c_void, length: usize) {
    let mut state = STATE.get();
    if state == 0 {
        state = SEED.load(Ordering::SeqCst);
    }
    let bytes = buffer.cast::<u8>();
    for at in 0..length {
        if at % 8 == 0 {
            state = rng::step(state);
        }
        let byte = (rng::mix(state) >> (8 * (at % 8))) as u8;
        // SAFETY: `at` is below the length that the caller promised.
        unsafe { bytes.add(at).write(byte) };
    }
    STATE.set(state);
}

/// Replaces getrandom(2).
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    static ORIGINAL: AtomicUsize = AtomicUsize::new(0);
    if SEED.load(Ordering::SeqCst) != 0 {
        // SAFETY: what the caller promised.
        unsafe { fill(buffer, length) };
        return length as isize;
    }
    type Function = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize;
    // SAFETY: this is the type of the C library's getrandom.
    unsafe {
        let function: Function = std::mem::transmute(original(c"getrandom", &ORIGINAL));
        function(buffer, length, flags)
    }
}

/// Replaces syscall(2). The C function has as many arguments as the call needs, at most six, all of
/// them in registers; those that a caller does not set are passed on unchanged.
///
/// # Safety
/// The same as for the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    static ORIGINAL: AtomicUsize = AtomicUsize::new(0);
    if number == GETRANDOM && SEED.load(Ordering::SeqCst) != 0 {
        // SAFETY: the arguments of getrandom(2): a buffer and its length.
        unsafe { fill(a as *mut c_void, b as usize) };
        return b;
    }
    type Function = unsafe extern "C" fn(c_long, ...) -> c_long;
    // SAFETY: this is the type of the C library's syscall.
    unsafe {
        let function: Function = std::mem::transmute(original(c"syscall", &ORIGINAL));
        function(number, a, b, c, d, e, f)
    }
}
