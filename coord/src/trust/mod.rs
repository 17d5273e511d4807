//! Who may: tokens, roles, revocations, and the secrets they are derived from.

pub mod doorkeeper;
pub mod secrets;
pub mod token_list;
pub mod auth;
pub mod command_socket;
