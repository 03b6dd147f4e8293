//! The most memory this process has held at once.

/// Starts counting anew, from what is resident now. Elsewhere than on Linux nothing counts, and nothing happens.
pub fn reset() {
    // See proc_pid_clear_refs(5). Where a sandbox forbids it, the peak is that of the whole process.
    #[cfg(target_os = "linux")]
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// Bytes resident at most since [`reset`], if the system says.
pub fn bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_given_back_no_longer_counts_after_a_reset() {
        const BYTES: usize = 256 << 20;
        let held = std::hint::black_box(vec![1_u8; BYTES]);
        let with = bytes().unwrap();
        drop(held);
        reset();
        let without = bytes().unwrap();
        assert!(with > BYTES as u64, "{with}");
        assert!(without < with - BYTES as u64 / 2, "{without} of {with}");
    }
}
