//! The local cache: what it is asked, what it answers, and what is kept in it.

pub mod keeper;
pub mod preprocessor_mode;
pub mod store;
pub mod lookup;
pub mod manifest;
pub mod answer;
pub mod disk;
