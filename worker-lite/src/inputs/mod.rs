//! What a task brings: its description, checked, and its input files, as blobs or as a tree.

pub mod tree;
pub mod blobs;
pub mod layout;
pub mod validate;
