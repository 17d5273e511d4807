//! Reading C text without a compiler: what it may include, and what another machine would
//! compile otherwise. Pure.

pub mod indentation;
pub mod hazards;
pub mod scan;
pub(crate) mod questions;
pub(crate) mod pieces;
pub(crate) mod code;
pub(crate) mod lex;
