//! The local cache: looking a compile up, and storing its result.

pub mod keeper;
pub mod preprocessor_mode;
pub mod store;
pub mod lookup;
pub mod manifest;
pub mod answer;
pub mod disk;
