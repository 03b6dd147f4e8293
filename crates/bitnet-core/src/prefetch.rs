//! Hints to the CPU to start fetching what is read soon, where it could not foresee that.
//!
//! The address need not be valid. Other CPUs than x86-64 and ARM ignore the hints.

/// Bytes that one hint fetches.
pub const LINE: usize = 64;

/// Fetches the line at `at` into the first-level cache.
#[inline(always)]
pub fn near<T>(at: *const T) {
    hint::<T, true>(at);
}

/// Fetches the line at `at` into the second-level cache.
#[inline(always)]
pub fn far<T>(at: *const T) {
    hint::<T, false>(at);
}

#[inline(always)]
#[cfg_attr(
    all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)),
    expect(unsafe_code, reason = "an instruction of the baseline that takes any address")
)]
fn hint<T, const NEAR: bool>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 CPU has it, and it changes nothing but the caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T2, _mm_prefetch};
        if NEAR { _mm_prefetch::<_MM_HINT_T0>(at.cast()) } else { _mm_prefetch::<_MM_HINT_T2>(at.cast()) }
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: every aarch64 CPU has it, and it changes nothing but the caches.
    unsafe {
        use std::arch::asm;
        if NEAR {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
        } else {
            asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
        }
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = at;
}
