//! C text, read without a compiler. Pure.

pub mod indentation;
pub mod hazards;
pub mod scan;
pub(crate) mod questions;
pub(crate) mod pieces;
pub(crate) mod code;
pub(crate) mod lex;
