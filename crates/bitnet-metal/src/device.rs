//! Metal devices of this machine.

use crate::Result;

/// A GPU that Metal can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name as the system gives it, such as "Apple M2 Pro".
    pub name: String,
    /// The newest of Apple's GPU families that it belongs to: 7 for M1, 8 for M2, 9 for M3 and M4. `None` for
    /// a GPU that is not Apple's.
    pub apple_family: Option<u8>,
    /// Whether it belongs to the family Metal 3.
    pub has_metal3: bool,
    /// Whether it shares its memory with the CPU.
    pub has_unified_memory: bool,
    /// Bytes it can work on without slowing down.
    pub recommended_working_set_bytes: u64,
    /// Bytes of the largest buffer.
    pub max_buffer_bytes: u64,
    /// The largest number of threads of one threadgroup.
    pub max_threads_per_threadgroup: usize,
    /// Bytes of threadgroup memory.
    pub max_threadgroup_memory_bytes: usize,
}

impl DeviceInfo {
    /// Whether the kernels run on it: they need sums over simdgroups, and memory that the CPU can write.
    pub fn is_suitable(&self) -> bool {
        self.has_metal3 && self.has_unified_memory
    }
}

/// All Metal devices, the system's default first.
///
/// Errors: [`crate::Error::NoDevice`] where there is none, as on every system but macOS.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    #[cfg(target_os = "macos")]
    return crate::macos::devices();
    #[cfg(not(target_os = "macos"))]
    Err(crate::Error::NoDevice { reason: "Metal exists on macOS only".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn off_macos_there_is_a_clear_no() {
        assert_eq!(devices().unwrap_err().to_string(), "no Metal device: Metal exists on macOS only");
    }

    #[test]
    #[cfg(target_os = "macos")]
    fn every_device_has_a_name_and_room_for_threads() {
        // A virtual machine may have none.
        for device in devices().unwrap_or_default() {
            assert!(!device.name.is_empty() && device.max_threads_per_threadgroup > 0);
        }
    }
}
