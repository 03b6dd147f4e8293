//! The kernels on a CPU: a shared library that is built of the same sources (`metal/host`).
//!
//! A test of results, not of speed: it has real barriers and simdgroups, in any order of the threads, and
//! refuses what Metal forbids.
#![expect(unsafe_code, reason = "calls a library by its C interface, and shares memory with it")]

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::time::{Duration, Instant};

use bitnet_core::Buffer;
use libloading::Library;

use crate::{Constant, ConstantValue, DeviceInfo, Dispatch, Error, Gpu, MOST_BUFFERS, Memory, Result};

/// The environment variable that names the library.
pub const LIBRARY_VARIABLE: &str = "BITNET_METAL_HARNESS";

/// In which order the threads of a kernel run, and dispatches that may run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first one first.
    Forward,
    /// The last one first.
    Reverse,
    /// Any, by this seed, which is more than 1.
    Random(u32),
}

/// The kernels of a library.
#[derive(Debug)]
pub struct Harness {
    info: DeviceInfo,
    entry: Entry,
    order: Order,
    kernels: Vec<String>,
    _library: Library,
}

/// Functions of the library, for as long as it is loaded.
#[derive(Debug, Clone, Copy)]
struct Entry {
    dispatch: unsafe extern "C" fn(*const RawDispatch) -> c_int,
    error: unsafe extern "C" fn() -> *const c_char,
}

/// `struct MslDispatch` of the library.
#[repr(C)]
struct RawDispatch {
    kernel: *const c_char,
    buffers: *const *mut c_void,
    buffer_bytes: *const u64,
    buffer_count: u32,
    threadgroups: [u32; 3],
    threads: [u32; 3],
    threadgroup_bytes: [u32; 8],
    constants: *const RawConstant,
    constant_count: u32,
    order: u32,
}

/// `struct MslConstant` of the library.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct RawConstant {
    index: u32,
    bytes: u32,
    value: u64,
}

/// A kernel by its name, with its constants.
#[derive(Debug, Clone)]
pub struct HarnessPipeline {
    kernel: CString,
    constants: Vec<RawConstant>,
}

/// Memory of this process, as aligned as that of a device.
#[derive(Debug)]
pub enum HarnessMemory {
    /// Its own.
    Own(OwnMemory),
    /// Somebody's, and read-only.
    Shared(Buffer),
}

/// Memory that kernels write.
#[derive(Debug)]
pub struct OwnMemory {
    blocks: Box<[UnsafeCell<u128>]>,
    bytes: usize,
}

// SAFETY: the memory is written by `write`, which has it for itself, and by steps, which do not run beside
// reads: that is the contract of `Memory`.
unsafe impl Sync for OwnMemory {}

/// Fills new memory: as float32 and float16 it is no number.
const UNWRITTEN: u128 = u128::MAX;

impl Harness {
    /// Loads the library at `path`.
    ///
    /// Errors: [`Error::NoDevice`].
    pub fn load(path: &Path, order: Order) -> Result<Self> {
        let no_device = |reason: String| Error::NoDevice { reason: format!("{}: {reason}", path.display()) };
        // SAFETY: it is our own library; loading it runs no code but the runtime's.
        let library = unsafe { Library::new(path) }.map_err(|error| no_device(error.to_string()))?;
        let missing = |error: libloading::Error| no_device(error.to_string());
        // SAFETY: these are the signatures of the library's header.
        let (entry, kernels) = unsafe {
            let dispatch = *library.get(b"msl_dispatch\0").map_err(missing)?;
            let error = *library.get(b"msl_error\0").map_err(missing)?;
            let kernels: unsafe extern "C" fn(*mut *const *const c_char) -> c_int =
                *library.get(b"msl_kernels\0").map_err(missing)?;
            (Entry { dispatch, error }, names(kernels))
        };
        let info = DeviceInfo {
            name: "Metal kernels on the CPU".to_owned(),
            apple_family: None,
            has_metal3: true,
            has_unified_memory: true,
            recommended_working_set_bytes: u64::MAX,
            max_buffer_bytes: u64::MAX,
            max_threads_per_threadgroup: 1024,
            max_threadgroup_memory_bytes: 32 << 10,
        };
        Ok(Self { info, entry, order, kernels, _library: library })
    }

    /// Names of all kernels.
    pub fn kernels(&self) -> &[String] {
        &self.kernels
    }

    fn dispatch(&self, dispatch: &Dispatch<'_, Self>) -> Result<()> {
        let mut params = [0_u32; crate::MOST_WORDS];
        let params = &mut params[..dispatch.params.words().len()];
        params.copy_from_slice(dispatch.params.words());
        let mut pointers = [std::ptr::null_mut(); MOST_BUFFERS + 1];
        let mut sizes = [0; MOST_BUFFERS + 1];
        for (index, binding) in dispatch.buffers.iter().enumerate() {
            if let Some(binding) = binding {
                pointers[index] = binding.memory.pointer().wrapping_add(binding.offset).cast();
                sizes[index] = binding.size_bytes() as u64;
            }
        }
        let last = dispatch.buffers.params_index();
        (pointers[last], sizes[last]) = (params.as_mut_ptr().cast(), size_of_val(params) as u64);
        let mut threadgroup_bytes = [0; 8];
        threadgroup_bytes[0] = dispatch.threadgroup_bytes as u32;
        let raw = RawDispatch {
            kernel: dispatch.pipeline.kernel.as_ptr(),
            buffers: pointers.as_ptr(),
            buffer_bytes: sizes.as_ptr(),
            buffer_count: last as u32 + 1,
            threadgroups: dispatch.threadgroups.map(|count| count as u32),
            threads: [dispatch.threads as u32, 1, 1],
            threadgroup_bytes,
            constants: dispatch.pipeline.constants.as_ptr(),
            constant_count: dispatch.pipeline.constants.len() as u32,
            order: match self.order {
                Order::Forward => 0,
                Order::Reverse => 1,
                Order::Random(seed) => seed.max(2),
            },
        };
        // SAFETY: all pointers are to memory of at least the sizes given, which lives until the call returns.
        if unsafe { (self.entry.dispatch)(&raw const raw) } == 0 {
            return Ok(());
        }
        // SAFETY: the library gives the message of this thread, which lives until its next call.
        let message = unsafe { CStr::from_ptr((self.entry.error)()) };
        let kernel = dispatch.pipeline.kernel.to_string_lossy();
        Err(Error::Failed { reason: format!("{kernel}: {}", message.to_string_lossy()) })
    }
}

/// # Safety
/// `kernels` must be `msl_kernels` of a library that is loaded.
unsafe fn names(kernels: unsafe extern "C" fn(*mut *const *const c_char) -> c_int) -> Vec<String> {
    let mut names = std::ptr::null();
    // SAFETY: the library writes a pointer to as many strings as it says, which live as long as it does.
    let names = unsafe {
        let count = kernels(&raw mut names);
        if count <= 0 { &[] } else { std::slice::from_raw_parts(names, count as usize) }
    };
    // SAFETY: as above.
    names.iter().map(|name| unsafe { CStr::from_ptr(*name) }.to_string_lossy().into_owned()).collect()
}

impl Gpu for Harness {
    type Memory = HarnessMemory;
    type Pipeline = HarnessPipeline;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: usize) -> Result<HarnessMemory> {
        let mut blocks = Vec::new();
        let count = bytes.div_ceil(size_of::<u128>());
        let out_of_memory = |_| Error::OutOfMemory { what: format!("{bytes} bytes") };
        blocks.try_reserve_exact(count).map_err(out_of_memory)?;
        blocks.resize_with(count, || UnsafeCell::new(UNWRITTEN));
        Ok(HarnessMemory::Own(OwnMemory { blocks: blocks.into(), bytes }))
    }

    fn share(&self, bytes: &Buffer, align: usize) -> Result<HarnessMemory> {
        if (bytes.as_ptr() as usize).is_multiple_of(align) {
            return Ok(HarnessMemory::Shared(bytes.clone()));
        }
        let mut memory = self.allocate(bytes.len())?;
        memory.write(0, bytes);
        Ok(memory)
    }

    fn pipeline(&self, kernel: &str, constants: &[Constant], _: usize) -> Result<HarnessPipeline> {
        if !self.kernels.iter().any(|name| name == kernel) {
            return Err(Error::Compile {
                kernel: kernel.to_owned(),
                reason: "there is none of this name".to_owned(),
            });
        }
        let kernel = CString::new(kernel).expect("a name of the library");
        Ok(HarnessPipeline { kernel, constants: constants.iter().map(raw_constant).collect() })
    }

    fn run(&self, dispatches: &[Dispatch<'_, Self>]) -> Result<Duration> {
        let start = Instant::now();
        for beside in dispatches.chunk_by(|_, next| !next.waits) {
            match self.order {
                Order::Forward => beside.iter().try_for_each(|dispatch| self.dispatch(dispatch))?,
                _ => beside.iter().rev().try_for_each(|dispatch| self.dispatch(dispatch))?,
            }
        }
        Ok(start.elapsed())
    }
}

fn raw_constant(constant: &Constant) -> RawConstant {
    let (bytes, value) = match constant.value {
        ConstantValue::Bool(value) => (1, u64::from(value)),
        ConstantValue::U32(value) => (4, u64::from(value)),
        ConstantValue::F32(value) => (4, u64::from(value.to_bits())),
    };
    RawConstant { index: constant.index, bytes, value }
}

impl HarnessMemory {
    fn pointer(&self) -> *mut u8 {
        match self {
            Self::Own(memory) => memory.pointer(),
            Self::Shared(buffer) => buffer.as_ptr().cast_mut(),
        }
    }
}

impl OwnMemory {
    fn pointer(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.blocks.as_ptr()).cast()
    }
}

impl Memory for HarnessMemory {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Own(memory) => memory.bytes,
            Self::Shared(buffer) => buffer.len(),
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.size_bytes(), "bytes {at}.. of {}", self.size_bytes());
        let Self::Own(memory) = self else { panic!("shared memory is read-only") };
        // SAFETY: in bounds; the memory is borrowed for this alone.
        unsafe { memory.pointer().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at + bytes.len() <= self.size_bytes(), "bytes {at}.. of {}", self.size_bytes());
        // SAFETY: in bounds; no step writes meanwhile, by the contract of `Memory`.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.pointer().add(at), bytes.len()) };
    }
}
