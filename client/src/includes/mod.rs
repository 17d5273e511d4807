//! The files that a compile could read: include directives followed from its source.

pub mod walk_input;
pub mod search_path;
pub mod dependency_list;
pub mod closure;
mod unchanged;
pub mod macro_names;
pub(crate) mod part;
pub mod headers;
pub mod watch;
pub mod facts;
pub mod stat_cache;
pub mod devices;
pub mod stat;
pub mod paths;
