//! One task: its turn, its compile, and the compilers there are for it.

pub mod task;
pub mod delivery;
pub mod gate;
pub mod trial;
pub mod compile;
pub mod toolchains;
pub mod control;
