//! Hints to the CPU to start fetching what is read soon, where it could not foresee that, and the opposite for measurements.
//!
//! The address of a hint need not be valid. Other CPUs than x86-64 and ARM ignore them.

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

/// Drops `memory` from all caches, so that what reads it next is seen to read memory. Does nothing on CPUs where that takes
/// a privilege, or is not known to work: other than x86-64 with AVX-512 BW or AVX-VNNI.
#[cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "an instruction that changes nothing but the caches")
)]
pub fn evict(memory: &[u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if is_x86_feature_detected!("avx512bw") || is_x86_feature_detected!("avxvnni") {
        for line in memory.chunks(LINE) {
            // SAFETY: the line is mapped, and every CPU with one of these features has CLFLUSHOPT.
            unsafe {
                std::arch::asm!("clflushopt [{line}]", line = in(reg) line.as_ptr(), options(nostack, preserves_flags));
            }
        }
        // SAFETY: every x86-64 CPU has it; what follows is not read before the lines are gone.
        unsafe { std::arch::x86_64::_mm_mfence() };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = memory;
}
