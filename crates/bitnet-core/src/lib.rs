//! What every other crate of bitnet-rust stands on: data types, shapes, shared buffers and tensors, devices,
//! the instruction sets of the CPU, the pools of threads and of memory, and the floating-point kernels.
#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian and are read in place; big-endian machines are not supported");

pub mod bandwidth;
pub mod buffer;
pub mod byte_size;
pub mod device;
pub mod disjoint;
pub mod dtype;
pub mod error;
pub mod float;
pub mod float_matrix;
pub mod gemm;
pub mod isa;
pub mod low_rank;
pub mod memory_pool;
pub mod pages;
pub mod prefetch;
pub mod shape;
pub mod tensor;
pub mod thread_pool;

pub use buffer::Buffer;
pub use byte_size::ByteSize;
pub use device::Device;
pub use disjoint::DisjointSlice;
pub use dtype::DType;
pub use error::{Error, Result};
pub use float::{FloatKernels, POSITIONS};
pub use float_matrix::FloatMatrix;
pub use isa::Isa;
pub use low_rank::LowRank;
pub use memory_pool::{HybridMemoryPool, PoolVec};
pub use pages::Pages;
pub use shape::Shape;
pub use tensor::Tensor;
pub use thread_pool::ThreadPool;
