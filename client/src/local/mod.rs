//! The user's own compiler, here: which program, how it runs, and what it leaves.

pub mod capture;
pub mod terminal;
pub mod escape_sequences;
pub mod process;
pub mod slots;
pub mod signals;
pub mod output;
pub mod memory_file;
pub mod compiler;
pub mod passed;
pub mod trace_context;
