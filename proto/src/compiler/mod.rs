//! Compilers of this machine: what makes two the same, and how fast its cores are.

pub mod mathematics;
pub mod packing;
pub mod probe;
pub mod shipment;
pub mod memo;
pub mod toolchain;
pub mod turn;
pub mod way;
pub mod speed;
