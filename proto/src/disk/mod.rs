//! A bounded store on disk that many processes share: entries, shards and eviction; and
//! what files and file systems can do.

pub mod entries;
pub mod evict;
pub mod draft;
pub mod shard;
pub mod index;
pub mod team_folder;
pub mod own_device;
pub mod unnamed_file;
pub mod upkeep;
