//! What an operator has done to the whole store of results. Works on the store's folder,
//! whether or not a coordinator uses it. Blocks.

use std::collections::BTreeMap;

use hg_proto::disk::upkeep::{self, Walk};
use prost::Message;

use crate::results::kept::Kept;
use crate::results::store::Store;

/// Results of one worker that are good.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub results: u64,
    /// Bytes of their outputs.
    pub bytes: u64,
}

/// What was found when all results were read.
#[derive(Debug, Default)]
pub struct Swept {
    /// Those that stay, by the name of the worker that made them.
    pub good: BTreeMap<String, Share>,
    /// For people, for each of the others: its file, and why it was removed.
    pub wrong: Vec<String>,
}

/// Reads all results of `store`, and removes those of which `why` says that they have to go,
/// and what is damaged.
///
/// # Errors
/// In words: the folder can't be read or written, or some of it is in use.
pub fn sweep(store: &Store, why: impl Fn(&Kept) -> Option<&'static str>) -> Result<Swept, String> {
    let mut swept = Swept::default();
    let good = &mut swept.good;
    let judge = |_, body: &[u8]| {
        let Ok(kept) = Kept::decode(body) else {
            return Some("not a result");
        };
        let reason = why(&kept);
        if reason.is_none() {
            let worker = kept.maker.unwrap_or_default().name;
            let share = good.entry(worker).or_default();
            share.results += 1;
            share.bytes += kept
                .outputs
                .iter()
                .map(|bytes| bytes.len() as u64)
                .sum::<u64>();
        }
        reason
    };
    let folder = store.entries().folder();
    let walk = upkeep::verify(store.entries(), judge)
        .and_then(|walk| Ok((upkeep::recount(folder)?, walk)));
    let (recounted, verified) = walk.map_err(|error| format!("{}: {error}", folder.display()))?;
    swept.wrong = verified
        .done
        .into_iter()
        .flat_map(|shard| shard.wrong)
        .collect();
    whole(&recounted)?;
    Ok(swept)
}

/// Removes all results of `store`; gives how many there were.
///
/// # Errors
/// As [`sweep`].
pub fn clear(store: &Store) -> Result<u64, String> {
    let folder = store.entries().folder();
    let walk = upkeep::clear(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    whole(&walk)?;
    Ok(walk.done.iter().sum())
}

fn whole<T>(walk: &Walk<T>) -> Result<(), String> {
    match walk.busy {
        0 => Ok(()),
        busy => Err(format!(
            "{busy} of the store's 256 shards are in use; try again"
        )),
    }
}
