//! The kernels, compiled from their sources.

use std::ffi::c_void;
use std::ptr::NonNull;

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCompileOptions, MTLDataType, MTLDevice, MTLFunction, MTLFunctionConstantValues, MTLLibrary,
};

use crate::source::source;
use crate::{Constant, ConstantValue, Error, Result};

/// All kernels.
#[derive(Debug)]
pub(super) struct Library(Retained<ProtocolObject<dyn MTLLibrary>>);

impl Library {
    pub(super) fn compile(device: &ProtocolObject<dyn MTLDevice>) -> Result<Self> {
        let options = MTLCompileOptions::new();
        // Sums in a fixed order, and no shortcuts: the results are to be those of the CPU.
        #[expect(deprecated, reason = "its successor exists from macOS 15 on")]
        options.setFastMathEnabled(false);
        let library =
            device.newLibraryWithSource_options_error(&NSString::from_str(&source()), Some(&options));
        library.map(Self).map_err(|error| Error::Compile {
            kernel: "library".to_owned(),
            reason: error.localizedDescription().to_string(),
        })
    }

    /// The kernel `name`, compiled for its constants.
    pub(super) fn function(
        &self,
        name: &str,
        constants: &[Constant],
    ) -> Result<Retained<ProtocolObject<dyn MTLFunction>>> {
        let values = values(constants);
        self.0.newFunctionWithName_constantValues_error(&NSString::from_str(name), &values).map_err(|error| {
            Error::Compile { kernel: name.to_owned(), reason: error.localizedDescription().to_string() }
        })
    }
}

fn values(constants: &[Constant]) -> Retained<MTLFunctionConstantValues> {
    let values = MTLFunctionConstantValues::new();
    let set = |pointer: NonNull<c_void>, kind, index: u32| {
        // SAFETY: `pointer` is to a value of the type `kind`, which is copied.
        unsafe { values.setConstantValue_type_atIndex(pointer, kind, index as usize) };
    };
    for Constant { index, value } in constants {
        match value {
            ConstantValue::Bool(value) => set(NonNull::from(value).cast(), MTLDataType::Bool, *index),
            ConstantValue::U32(value) => set(NonNull::from(value).cast(), MTLDataType::UInt, *index),
            ConstantValue::F32(value) => set(NonNull::from(value).cast(), MTLDataType::Float, *index),
        }
    }
    values
}
