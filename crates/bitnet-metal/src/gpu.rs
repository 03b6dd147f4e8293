//! What runs kernels: a Metal device, or what stands in for it on a CPU.

use std::fmt::Debug;
use std::time::Duration;

use bitnet_core::Buffer;

use crate::{DeviceInfo, Dispatch, Result};

/// A device with its compiled kernels. Threads may share it.
pub trait Gpu: Debug + Send + Sync + 'static {
    /// Memory that CPU and device share.
    type Memory: Memory;
    /// A kernel, compiled for its constants.
    type Pipeline: Debug + Clone + Send + Sync;

    /// What the device offers.
    fn info(&self) -> &DeviceInfo;

    /// Memory of its own, with anything in it.
    ///
    /// Errors: [`crate::Error::OutOfMemory`].
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// The memory of `bytes`, which the device only reads: in place where the system allows that and it
    /// begins at a multiple of `align` bytes, else a copy.
    ///
    /// Errors: [`crate::Error::OutOfMemory`].
    fn share(&self, bytes: &Buffer, align: usize) -> Result<Self::Memory>;

    /// The kernel of this name, for threadgroups of at most `threads` threads.
    ///
    /// Errors: [`crate::Error::Compile`], also where there is none of this name; [`crate::Error::Unsuitable`]
    /// where its simdgroups are not of 32 threads.
    fn pipeline(&self, kernel: &str, constants: &[Constant], threads: usize) -> Result<Self::Pipeline>;

    /// Says that no kernel will be compiled for a while: what was compiled may be kept for the next process.
    fn keep_pipelines(&self) {}

    /// Runs a step, or a piece of one, to its end, and gives the time that the device took by its own clock.
    ///
    /// Errors: [`crate::Error::OutOfMemory`], [`crate::Error::DeviceLost`], [`crate::Error::Failed`]. Memory
    /// that they write may hold anything then.
    fn run(&self, dispatches: &[Dispatch<'_, Self>]) -> Result<Duration>
    where
        Self: Sized;
}

/// Memory that CPU and device share. Neither call runs beside a step that uses it: sessions see to that, each
/// for its own.
pub trait Memory: Debug + Send + Sync {
    /// Number of bytes.
    fn size_bytes(&self) -> usize;

    /// Copies `bytes` to the place `at`.
    fn write(&mut self, at: usize, bytes: &[u8]);

    /// Copies from the place `at` to `bytes`.
    fn read(&self, at: usize, bytes: &mut [u8]);
}

/// The value of a function constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    /// Its index, `[[function_constant(index)]]`.
    pub index: u32,
    /// Its value, of the type that the kernel declares.
    pub value: ConstantValue,
}

impl Constant {
    /// What tells its values apart.
    pub(crate) fn bits(self) -> u64 {
        match self.value {
            ConstantValue::Bool(value) => u64::from(value),
            ConstantValue::U32(value) => u64::from(value),
            ConstantValue::F32(value) => u64::from(value.to_bits()),
        }
    }
}

/// A value with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConstantValue {
    /// `bool`.
    Bool(bool),
    /// `uint`.
    U32(u32),
    /// `float`.
    F32(f32),
}
