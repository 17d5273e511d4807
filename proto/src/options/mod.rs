//! The options of gcc and clang: how each is spelt, and where a compile with it may go. Pure.

pub mod args;
pub mod table;
mod rows_driver;
mod rows_shared;
mod rows_gcc;
mod rows_clang;
mod rows_machine;
pub mod row;
