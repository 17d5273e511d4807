//! What a task brings: its order, checked, and its files, in pieces or as a tree.

pub mod tree;
pub mod blobs;
pub mod layout;
pub mod validate;
