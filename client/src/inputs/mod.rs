//! What a worker is given: the tree form, or preprocessed text.

pub mod task;
pub mod tree;
pub mod preprocessed;
pub mod text_checks;
