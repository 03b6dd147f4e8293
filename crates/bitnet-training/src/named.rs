//! Choices that options name.

/// Lets a type with `ALL` and `name` be shown by its name, and be read from it: of the option `$option`, which is to be
/// `$expected`.
macro_rules! named {
    ($type:ty, $option:literal, $expected:literal) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                Self::ALL.into_iter().find(|of| of.name() == name).ok_or_else(|| {
                    $crate::Error::InvalidOption { name: $option, expected: $expected, got: name.to_owned() }
                })
            }
        }
    };
}
pub(crate) use named;
