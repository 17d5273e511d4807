//! What the coordinator calls workers, tasks and attempts. Numbers are never
//! used twice in the life of a process.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hg_proto::wire::digest::Digest;

/// A worker's link. One that reconnects gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// A worker, wherever it connects from: the holder of its token, and its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Holder of the token; empty where nobody is asked for one.
    pub holder: String,
    /// The worker's own name.
    pub name: String,
}

/// A task, from its submission to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// One attempt of one task on one worker; on the wire as `dispatch_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DispatchId(pub u64);

/// By one of these numbers. They are ours, so that nobody can make them collide,
/// and each run hashes them alike.
pub type ById<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// By a toolchain. Each event asks for some of these, many times over: a hash that
/// costs little, and a key, since workers name what digests they like.
pub type ByDigest<V> = HashMap<Digest, V, Keyed>;

/// Hashes with a key of its own, so that nobody who does not know it can make
/// entries collide; the same key hashes alike in each run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keyed(pub u64);

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        FoldHasher::with_seed(self.0, SharedSeed::global_fixed())
    }
}
