//! What a compile could read: include directives followed from the source.

pub mod question;
pub mod search_path;
pub mod dependency_list;
pub mod closure;
mod unchanged;
pub mod macro_names;
pub(crate) mod part;
pub mod headers;
pub mod watch;
pub mod facts;
pub mod paths;
