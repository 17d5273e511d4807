//! Who is trusted: tokens, certificates, and files for one user's eyes only.

pub mod credentials;
pub mod tls;
pub mod token;
pub mod atomic_file;
pub mod private;
pub mod service;
